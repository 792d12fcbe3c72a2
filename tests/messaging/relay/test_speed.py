"""Compiled parts that are missing are told of."""

from messaging.relay.speed import what_is_slow


def test_here_nothing_is_missing() -> None:
    assert list(what_is_slow()) == []


def test_each_missing_part_is_a_sentence_that_says_what_it_costs() -> None:
    def none(module: str) -> object:
        raise ImportError(module)

    sentences = list(what_is_slow(none))
    assert any("aiohttp._http_parser" in sentence and "4 times" in sentence for sentence in sentences)
    assert all(sentence.startswith("warning: ") for sentence in sentences)
