"""Chats with summaries by people: the project's own that are held out, and public corpora, if the user has them.

A public corpus is read from where the user keeps it. Nothing of one is in this repository, and nothing is trained on one.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ai_enclave.engine.train.corpus import AnnotatedChat, read_corpus
from ai_enclave.engine.train.examples import MINUTE, thread_of
from ai_enclave.features import Message, Thread

BIPIA_ATTACKS = "text_attack_test.json"
_NOISE = re.compile(r"\{\w+\}")  # QMSum: {vocalsound}, {disfmarker}
_MOST_FIELD = 1_000_000  # characters of one field of a CSV


class BadCorpus(Exception):
    """A corpus cannot be read; one sentence says which, and what it should be."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One chat. ``references`` are summaries by people; ``chat`` has the marks, of the project's own."""

    id: str
    thread: Thread
    references: tuple[str, ...] = field(repr=False)
    lang: str = "en"
    chat: AnnotatedChat | None = field(default=None, repr=False)


# --- the project's own ---


def held_out() -> tuple[Sample, ...]:
    """The chats that nothing was trained on."""
    return tuple(
        Sample(chat.id, thread_of(chat), (chat.summary,), chat.lang, chat) for chat in read_corpus() if chat.held_out
    )


def trained_on() -> tuple[AnnotatedChat, ...]:
    """The others: what they are like on average is what a method may know."""
    return tuple(chat for chat in read_corpus() if not chat.held_out)


# --- public corpora ---


def read_samsum(path: Path) -> tuple[Sample, ...]:
    """SAMSum (Gliwa et al. 2019): JSON, JSONL or CSV with ``id``, ``dialogue`` ("Name: text" a line) and ``summary``.

    Raises:
        BadCorpus: it is not there, or is not that.
    """
    found = _found(path, ("test.json", "test.jsonl", "test.csv"), "SAMSum")
    return _samples(found, _rows(found), "id", ("summary",))


def read_dialogsum(path: Path) -> tuple[Sample, ...]:
    """DialogSum (Chen et al. 2021): JSONL with ``fname``, ``dialogue``, and ``summary`` or ``summary1`` to ``summary3``.

    Raises:
        BadCorpus: it is not there, or is not that.
    """
    found = _found(path, ("dialogsum.test.jsonl", "DialogSum_Data/dialogsum.test.jsonl"), "DialogSum")
    return _samples(found, _rows(found), "fname", ("summary", "summary1", "summary2", "summary3"))


def read_qmsum(path: Path) -> tuple[Sample, ...]:
    """QMSum (Zhong et al. 2021): the turns that a specific query is about, and its answer as the reference.

    A folder of JSON files, one of them, or JSONL: ``meeting_transcripts`` (``speaker``, ``content``) and
    ``specific_query_list`` (``answer``, ``relevant_text_span``: pairs of first and last turn).

    Raises:
        BadCorpus: it is not there, or is not that.
    """
    if not path.exists():
        raise BadCorpus(f"there is no QMSum at {path}: give its folder of JSON files, or one file")
    files = sorted(path.glob("*.json*")) if path.is_dir() else [path]
    try:
        found = tuple(
            sample
            for file in files
            for number, meeting in enumerate(_rows(file))
            for sample in _queries(f"{file.stem}/{number}", meeting)
        )
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise BadCorpus(f"{path} is not QMSum: meetings need meeting_transcripts and specific_query_list") from None
    return _not_empty(found, path)


def read_bipia(path: Path) -> tuple[str, ...]:
    """The text attacks of BIPIA (Yi et al. 2023): JSON, lists of lines by kind of attack; a file, or a folder that holds it.

    Raises:
        BadCorpus: it is not there, or is not that.
    """
    if path.is_dir():
        path = next(iter(sorted(path.rglob(BIPIA_ATTACKS))), path / BIPIA_ATTACKS)
    if not path.is_file():
        raise BadCorpus(f"there are no attacks of BIPIA at {path}: give {BIPIA_ATTACKS}, or the folder that holds it")
    try:
        lines = tuple(line for some in json.loads(path.read_text(encoding="utf-8")).values() for line in some)
    except (ValueError, AttributeError, TypeError):
        lines = ()
    if not lines or not all(isinstance(line, str) and line.strip() for line in lines):
        raise BadCorpus(f"{path} is not BIPIA: it should be JSON, a list of lines for each kind of attack")
    return lines


def thread_from(turns: Sequence[tuple[str, str]]) -> Thread:
    """A conversation of exactly those who speak, a message each minute; ids are places."""
    messages = tuple(Message(str(place), speaker, place * MINUTE, text) for place, (speaker, text) in enumerate(turns))
    speakers = dict.fromkeys(speaker for speaker, _ in turns)
    return Thread(messages, {speaker: speaker for speaker in speakers}, len(speakers))


def turns_of(dialogue: str) -> list[tuple[str, str]]:
    """Speakers and what they say, from "Name: text" lines; a line without a name goes on with the one before."""
    turns: list[tuple[str, str]] = []
    for line in dialogue.splitlines():
        name, colon, text = line.strip().partition(":")
        if colon and name.strip() and (text[:1].isspace() or not text):
            turns.append((name.strip(), text.strip()))
        elif turns and line.strip():
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line.strip()}".strip())
    return [(name, text) for name, text in turns if text]


def _samples(path: Path, rows: Iterator[Any], key: str, references: Sequence[str]) -> tuple[Sample, ...]:
    found = []
    try:
        for row in rows:
            summaries = tuple(row[name].strip() for name in references if row.get(name))
            turns = turns_of(row["dialogue"])
            if turns and summaries:
                found.append(Sample(str(row[key]), thread_from(turns), summaries))
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise BadCorpus(f"{path} is not as it should be: rows need {key}, dialogue and {references[0]}") from None
    return _not_empty(tuple(found), path)


def _queries(name: str, meeting: Mapping[str, Any]) -> Iterator[Sample]:
    turns = [
        (turn["speaker"].strip(), _NOISE.sub("", turn["content"]).strip()) for turn in meeting["meeting_transcripts"]
    ]
    for number, query in enumerate(meeting["specific_query_list"]):
        places = {
            place
            for first, last in query["relevant_text_span"]
            for place in range(int(first), min(int(last) + 1, len(turns)))
        }
        about = [turns[place] for place in sorted(places) if all(turns[place])]
        if about and query["answer"].strip():
            yield Sample(f"{name}/{number}", thread_from(about), (query["answer"].strip(),))


def _found(path: Path, names: Sequence[str], what: str) -> Path:
    candidates = [path / name for name in names] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BadCorpus(f"there is no {what} at {path}: give the file, or a folder with {' or '.join(names)}")


def _rows(path: Path) -> Iterator[Any]:
    """The rows of a CSV, the lines of a JSONL, or the items of a JSON list (or its one item).

    Raises, when the rows are taken:
        BadCorpus, ValueError, csv.Error: the file cannot be read, or is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise BadCorpus(f"{path} cannot be read as text") from None
    if path.suffix == ".csv":
        csv.field_size_limit(_MOST_FIELD)
        yield from csv.DictReader(io.StringIO(text, newline=""))
    elif path.suffix == ".jsonl":
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
    else:
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]


def _not_empty(found: tuple[Sample, ...], path: Path) -> tuple[Sample, ...]:
    if not found:
        raise BadCorpus(f"{path} holds no chat with a summary")
    return found


def some(samples: Sequence[Sample], most: int | None) -> tuple[Sample, ...]:
    """At most so many, spread over all."""
    if most is None or len(samples) <= most:
        return tuple(samples)
    return tuple(islice(samples[:: len(samples) // most], most))
