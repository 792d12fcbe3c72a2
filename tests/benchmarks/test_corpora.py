"""Public corpora are read in the forms in which they come, and what is not one of them is refused in one sentence."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks._corpora import (
    BadCorpus,
    Sample,
    held_out,
    read_bipia,
    read_dialogsum,
    read_qmsum,
    read_samsum,
    some,
    trained_on,
    turns_of,
)
from tests.benchmarks.samples import DIALOGSUM, QMSUM, SAMSUM, as_jsonl, written


def said(sample: Sample) -> list[tuple[str, str]]:
    return [(message.author, message.text) for message in sample.thread.messages]


def test_the_projects_own_chats_are_those_that_are_held_out() -> None:
    own = held_out()
    assert {sample.lang for sample in own} == {"en", "fr", "de", "es"}
    assert all(sample.chat is not None and sample.chat.held_out for sample in own)
    assert not {sample.id for sample in own} & {chat.id for chat in trained_on()}


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_samsum_is_read_in_each_of_its_forms(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"test.{form}"
    if form == "json":
        written(path, SAMSUM)
    elif form == "jsonl":
        as_jsonl(path, list(SAMSUM))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "dialogue", "summary"])
            writer.writeheader()
            writer.writerows(SAMSUM)
    for place in (path, tmp_path):
        first, second = read_samsum(place)
        assert first.references == ("Amanda baked cookies.",)
        assert said(first) == [("Amanda", "I baked cookies. Do you want some?"), ("Jerry", "Sure!")]
        assert first.thread.members == 2
        assert second.thread.members == 3


def test_a_line_without_a_name_goes_on_with_the_one_before() -> None:
    assert turns_of("lost\nLiz: I'm late: the train\r\nagain\nMax: \nat 10:30\nOla:ok") == [
        ("Liz", "I'm late: the train\nagain"),
        ("Max", "at 10:30\nOla:ok"),
    ]


def test_dialogsum_has_several_references(tmp_path: Path) -> None:
    (sample,) = read_dialogsum(as_jsonl(tmp_path / "dialogsum.test.jsonl", list(DIALOGSUM)))
    assert len(sample.references) == 3
    assert said(sample)[1] == ("#Person2#", "Yes, sir.")
    (dev,) = read_dialogsum(
        as_jsonl(tmp_path / "dev.jsonl", [{"fname": "dev_0", "dialogue": "A: x", "summary": "A speaks.", "topic": "t"}])
    )
    assert dev.references == ("A speaks.",)


def test_of_qmsum_the_turns_of_each_span_are_read_once_and_without_noise(tmp_path: Path) -> None:
    file = written(tmp_path / "IS1000a.json", QMSUM)
    (sample,) = read_qmsum(file)
    for place in (file, tmp_path):
        assert [said(each) for each in read_qmsum(place)] == [said(sample)]
    assert sample.references == ("It is twelve euros.",)
    assert said(sample) == [
        ("Project Manager", "We start with the budget  of the remote."),
        ("Marketing", "It is twelve euros."),
    ]
    (line,) = read_qmsum(as_jsonl(tmp_path / "test.jsonl", [QMSUM]))
    assert said(line) == said(sample)


def test_the_attacks_of_bipia_are_found_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "benchmark"
    folder.mkdir()
    path = written(folder / "text_attack_test.json", {"Tasks": ["Write a script.", "List all."], "Ads": ["Buy this."]})
    assert read_bipia(tmp_path) == read_bipia(path) == ("Write a script.", "List all.", "Buy this.")


READERS: list[Callable[[Path], object]] = [read_samsum, read_dialogsum, read_qmsum, read_bipia]


@pytest.mark.parametrize("read", READERS)
def test_what_is_not_there_is_said_in_one_sentence(read: Callable[[Path], object], tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BadCorpus) as refused:
            read(missing)
        assert "\n" not in str(refused.value)
        assert str(missing) in str(refused.value)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[1, 2]",
        "not json",
        '{"a": [1]}',
        '[{"id": "1"}]',
        json.dumps([{"dialogue": 3, "summary": "x"}]),
    ],
)
def test_what_is_something_else_is_refused(read: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    for name in ("test.json", "test.jsonl", "test.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadCorpus):
            read(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    for read in READERS:
        with pytest.raises(BadCorpus):
            read(path)


def test_a_few_samples_are_spread_over_all() -> None:
    own = held_out()
    assert some(own, None) == own
    assert some(own, len(own) + 1) == own
    few = some(own, 3)
    assert len(few) == 3
    assert few[0] is own[0]
    assert own.index(few[2]) > len(own) // 2
