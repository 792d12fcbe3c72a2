"""Cases take turns, and ratios are taken within a round."""

import numpy as np
import pytest

from benchmarks._speed import cosines, environment, in_turns, ratio


def test_each_case_runs_once_in_each_round_and_the_first_is_not_counted() -> None:
    calls: list[str] = []

    def case(name: str, value: float) -> float:
        calls.append(name)
        return value + len(calls)

    times = in_turns({"a": lambda: case("a", 0), "b": lambda: case("b", 100)}, rounds=4, threads=1)
    assert [len(times["a"]), len(times["b"])] == [4, 4]
    rounds = [calls[start : start + 2] for start in range(0, len(calls), 2)]
    assert len(rounds) == 5
    assert all(sorted(each) == ["a", "b"] for each in rounds)
    assert min(times["a"]) >= 3  # the first round had the first two calls


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    assert ratio([2.0, 30.0, 400.0], [1.0, 10.0, 100.0]) == 3
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_cosines_say_the_mean_and_the_worst() -> None:
    exact = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    found = np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32)
    assert cosines(found, exact) == {"mean": 0.9, "worst": 0.8}


def test_a_process_gets_so_many_threads_that_wait_asleep() -> None:
    one = environment(1)
    assert one["OMP_NUM_THREADS"] == one["RAYON_NUM_THREADS"] == "1"
    assert one["OMP_WAIT_POLICY"] == "passive"
    assert (one["TOKENIZERS_PARALLELISM"], environment(2)["TOKENIZERS_PARALLELISM"]) == ("false", "true")
