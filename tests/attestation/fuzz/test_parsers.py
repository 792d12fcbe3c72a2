"""Whatever bytes arrive: a parser returns or raises the errors that it documents, at once, and in little memory.

Most inputs are made of the authorities' genuine ones, by changes that mostly keep their form.
"""

import time
import tracemalloc
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import Appraisal, AttestationError
from tests.attestation.fuzz.mutations import edited, mutated
from tests.attestation.fuzz.regressions import REGRESSIONS, Regression
from tests.attestation.fuzz.targets import TARGETS, Target

SECONDS = 1  # of the processor, for inputs of some kilobytes; the slowest appraisal takes a tenth
BYTES, MORE = 192, 8 * 1024 * 1024  # of memory: for each byte of input, and for everything else
APPRAISALS = [name for name in TARGETS if name.startswith("appraise-")]
PARSERS = [name for name in TARGETS if name not in APPRAISALS]
LOOSE = {  # where other bytes may say the same
    "appraise-azure-report": "zeros behind the claims",
    "appraise-quote": "zeros behind the quote, and white space in PEM",
    "appraise-event-log": "the fill of its area, and white space in JSON",
    "appraise-tcb-info-signed": "the fuzzer signs it",
    "appraise-qe-identity-signed": "the fuzzer signs it",
    "appraise-manifest": "white space in tags, and base64",
    "appraise-ocsp-answer": "certificates beside what is signed",
}
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
MANY = settings(FEW, max_examples=40)


def mutants(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with one to three changes."""

    def changed(seed: bytes, random: Random, changes: int) -> bytes:
        for _ in range(changes):
            seed = mutated(seed, random, lambda part: edited(part, random))
        return seed[: target.limit]

    return st.builds(changed, st.sampled_from(target.seeds), st.builds(Random, st.integers(0)), st.integers(1, 3))


def check(target: Target, data: bytes) -> None:
    """Only the documented errors come out, at once; and if nothing does, the same bytes are accepted again."""
    started = time.process_time()
    accepted = target(data)
    assert time.process_time() - started < SECONDS
    assert target(data) == accepted


def refusals(target: Target, data: bytes) -> tuple[AttestationError, ...]:
    """Why an appraisal does not accept ``data``."""
    appraisal = target.function(data)
    assert isinstance(appraisal, Appraisal)
    return appraisal.errors


@pytest.mark.parametrize("name", PARSERS)
@MANY
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]()
    check(target, data.draw(mutants(target)))


@pytest.mark.parametrize("name", APPRAISALS)
@FEW
@given(data=st.data())
def test_an_appraisal_of_changed_bytes_is_finished_and_is_a_refusal(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]()
    changed = data.draw(mutants(target))
    check(target, changed)
    assert name in LOOSE or changed in target.seeds or refusals(target, changed)


texts = st.text(alphabet='{}[]":,.-=+/<>&#!|\n\r\t 019aefAZ\x00é\ud800', max_size=60).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


@MANY
@given(st.binary(max_size=300) | texts)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for name in PARSERS:
        TARGETS[name]()(data)


@pytest.mark.parametrize("name", TARGETS)
def test_reading_takes_little_memory(name: str) -> None:
    target, random = TARGETS[name](), Random(1)  # noqa: S311 -- no secret
    inputs = [edited(seed, random)[: target.limit] for seed in target.seeds * 3] + list(target.seeds)
    target(target.seeds[0])  # what is made once is made
    tracemalloc.start()
    try:
        for data in inputs:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            target(data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < BYTES * len(data) + MORE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", APPRAISALS)
def test_what_is_changed_was_accepted_before(name: str) -> None:
    target = TARGETS[name]()
    assert not refusals(target, target.seeds[0])


@pytest.mark.parametrize("name", [name for name in PARSERS if not name.startswith(("gather-", "fetched-revocation"))])
def test_the_first_seed_is_read(name: str) -> None:
    target = TARGETS[name]()
    assert target(target.seeds[0])
    assert all(len(seed) <= target.limit for seed in target.seeds)


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: f"{regression.target}: {regression.fault}")
def test_what_once_failed_is_read_or_refused(regression: Regression) -> None:
    check(TARGETS[regression.target](), regression.made())
