"""At the limits of ``attestation.limits`` every parser is done at once, whatever shape its input has."""

import time
import tracemalloc

import pytest

from tests.attestation.fuzz.extremes import EXTREMES
from tests.attestation.fuzz.targets import TARGETS

SECONDS = 4  # of the processor: many times what the slowest needs, and nothing beside the square of such a size
BYTES = (
    192  # of memory for each byte of input: an empty list of JSON takes 28, a repetition of a regular expression 160
)
MORE = 8 * 1024 * 1024  # of memory, for everything else
SAMPLE = 32 * 1024  # bytes: enough to see memory grow with the square, few enough to count every piece of it


@pytest.mark.parametrize("name", EXTREMES)
def test_no_shape_of_the_largest_size_takes_long(name: str, subtests: pytest.Subtests) -> None:
    target = TARGETS[name]()
    target(target.seeds[0])  # what is made once is made
    for label, shape in EXTREMES[name].items():
        with subtests.test(label):
            data = shape(target.limit)
            assert len(data) <= target.limit
            started = time.process_time()
            target(data)
            assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("name", EXTREMES)
def test_no_shape_takes_much_more_memory_than_it_has_bytes(name: str, subtests: pytest.Subtests) -> None:
    target = TARGETS[name]()
    target(target.seeds[0])
    for label, shape in EXTREMES[name].items():
        with subtests.test(label):
            data = shape(min(SAMPLE, target.limit))
            tracemalloc.start()
            try:
                target(data)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < BYTES * len(data) + MORE
