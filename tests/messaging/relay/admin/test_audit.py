"""The chain of the audit log: what is written can be verified, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.relay.admin.audit import GENESIS, Entry, Outcome, Said, Verifier, link, verify
from messaging.relay.admin.errors import AuditBroken

KEY = b"k" * 32


def chain(count: int, key: bytes = KEY) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(count):
        said = Said(at=number, operator="ada", via="api", action="x.do", outcome=Outcome.DONE, detail={"n": number})
        entries.append(link(said, after=entries[-1] if entries else None, key=key))
    return entries


def test_a_log_as_it_was_written_is_verified() -> None:
    entries = chain(5)
    assert verify(entries, key=KEY) == entries[-1]
    assert verify(entries, key=None, head=entries[2].digest) == entries[-1]
    assert verify([], key=KEY) is None
    assert entries[0].previous == GENESIS


def test_it_is_verified_as_it_comes() -> None:
    verifier, entries = Verifier(key=KEY, head=chain(3)[1].digest), chain(3)
    for entry in entries:
        verifier.take(entry)
        assert verifier.last == entry
    assert verifier.finish() == entries[-1]


@given(
    place=st.integers(0, 4),
    name=st.sampled_from(["operator", "via", "action", "subject", "reason"]),
    text=st.text(max_size=5),
)
def test_a_changed_text_is_found(place: int, name: str, text: str) -> None:
    entries = chain(5)
    changed: dict[str, Any] = {name: text + "!"}
    entries[place] = replace(entries[place], said=replace(entries[place].said, **changed))
    with pytest.raises(AuditBroken):
        verify(entries, key=None)


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_missing_or_moved_entry_is_found(place: int) -> None:
    entries = chain(5)
    without = [entry for number, entry in enumerate(entries) if number != place]
    with pytest.raises(AuditBroken):
        verify(without, key=None)
    entries[place], entries[place + 1] = entries[place + 1], entries[place]
    with pytest.raises(AuditBroken):
        verify(entries, key=None)


def test_a_chain_that_was_made_without_the_key_is_found_by_its_seals_alone() -> None:
    forged = chain(3, key=b"f" * 32)
    verify(forged, key=None)
    with pytest.raises(AuditBroken):
        verify(forged, key=KEY)


def test_an_end_that_was_cut_off_is_found_by_a_head_that_was_noted() -> None:
    entries = chain(5)
    verify(entries[:3], key=KEY)
    with pytest.raises(AuditBroken):
        verify(entries[:3], key=KEY, head=entries[4].digest)
    with pytest.raises(AuditBroken):
        verify([], key=KEY, head=entries[0].digest)


@given(
    st.builds(
        Said,
        at=st.integers(0, 2**62),
        operator=st.text(max_size=8),
        via=st.just("api"),
        action=st.text(max_size=8),
        outcome=st.sampled_from(Outcome),
        subject=st.text(max_size=8),
        reason=st.text(max_size=8),
        detail=st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.none(), max_size=3),
    )
)
def test_reading_undoes_writing(said: Said) -> None:
    entry = link(said, after=None, key=KEY)
    assert Entry.from_json(entry.as_json()) == entry
    assert "\n" not in entry.as_json()


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", "null", "7"])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(AuditBroken):
        Entry.from_json(line)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('"reason":""', '"reason":"another","reason":""'),  # of two readers each might take another one
        ('"reason":""', '"note":"it was not I","reason":""'),
        ('"detail":{}', '"detail":[]'),
        ('"detail":{}', '"detail":7'),
        ('"reason":""', '"reason":"\\ud800"'),
        ('"reason":""', f'"reason":{"[" * 100_000}'),
        ('"sequence":1', '"sequence": 1'),
    ],
    ids=["twice", "more", "list", "number", "no letter", "deep", "space"],
)
def test_a_line_that_was_not_written_so_is_refused_though_its_digest_may_hold(written: str, instead: str) -> None:
    said = Said(at=1, operator="ada", via="api", action="x.do", outcome=Outcome.DONE)
    line = link(said, after=None, key=KEY).as_json()
    assert written in line
    with pytest.raises(AuditBroken):
        Verifier(key=KEY).take(Entry.from_json(line.replace(written, instead)))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_ends_as_lines_end_where_it_was_kept(end: str) -> None:
    (entry,) = chain(1)
    assert Entry.from_json(entry.as_json() + end) == entry
