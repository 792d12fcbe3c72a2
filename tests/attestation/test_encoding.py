"""There is one way to write a document; what is read is bounded, and never raises anything but a refusal."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import as_list, as_name, as_object, decode, encode, from_base64, to_base64
from attestation.errors import MalformedEvidence
from attestation.limits import MAX_CONTAINERS, MAX_MEMBERS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    texts | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)
objects = st.dictionaries(texts, values, max_size=4)


def test_members_are_sorted_and_nothing_is_between_them() -> None:
    assert encode({"b": 1, "a": ["é", {}], "B": "\n"}) == '{"B":"\\n","a":["é",{}],"b":1}'.encode()


@given(objects)
def test_reading_undoes_writing(members: dict[str, object]) -> None:
    data = encode(members)
    assert decode(data, limit=len(data)) == members


@given(objects)
def test_the_order_of_members_does_not_count(members: dict[str, object]) -> None:
    assert encode(dict(reversed(list(members.items())))) == encode(members)


def test_reads_up_to_the_limit_and_no_further() -> None:
    assert decode(b"{}  ", limit=4) == {}
    with pytest.raises(MalformedEvidence, match="too large"):
        decode(b"{}  ", limit=3)


NO_OBJECTS: dict[str, bytes] = {
    "nothing": b"",
    "half an object": b'{"a":',
    "two objects": b"{}{}",
    "a list": b"[]",
    "a text": b'"a"',
    "a number": b"1",
    "no number": b"NaN",
    "null": b"null",
    "no text": b'{"\xff":1}',
    "another encoding": b"\xff\xfe{\x00",
    "a number without end": b"9" * 5000,
    "a member without end": b'{"a":' + b"9" * 5000 + b"}",
    "lists without end": b"[" * 200_000,
    "objects without end": b'{"a":' * 200_000,
}


@pytest.mark.parametrize("data", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_refuses_what_is_no_object(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        decode(data, limit=len(data))


@given(st.binary(max_size=32))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode(data, limit=32), dict)
    except MalformedEvidence:
        assert not is_object(data)


def is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


@given(st.binary())
def test_base64_is_undone(data: bytes) -> None:
    assert from_base64(to_base64(data)) == data


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        b"AAAA",
        ["AAAA"],
        "A",
        "AA",
        "AAA",
        "AA=A",
        "AAAA=",
        "AAA_",
        "AA AA",
        "AAAA\n",
        "é",
        "\ud800",
        "=",
        "AA==AAAA",
    ],
)
def test_refuses_what_is_no_base64(value: object) -> None:
    with pytest.raises(MalformedEvidence):
        from_base64(value)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none()) | objects


@given(anything)
def test_an_object_is_an_object_and_nothing_else(value: object) -> None:
    if isinstance(value, dict):
        assert as_object(value) is value
    else:
        with pytest.raises(MalformedEvidence):
            as_object(value)


@given(value=anything, limit=st.integers(0, 4))
def test_a_list_is_a_short_list_and_nothing_else(value: object, limit: int) -> None:
    if isinstance(value, list) and len(value) <= limit:
        assert as_list(value, limit=limit) is value
    else:
        with pytest.raises(MalformedEvidence):
            as_list(value, limit=limit)


def test_a_list_may_be_as_long_as_the_limit() -> None:
    assert as_list([1, 2], limit=2) == [1, 2]
    with pytest.raises(MalformedEvidence):
        as_list([1, 2], limit=1)


@pytest.mark.parametrize("name", ["a", "subrosa 0.1.0", "é", "你好", "a" * 16])
def test_a_name_is_short_printable_text(name: str) -> None:
    assert as_name(name, limit=16) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 17, "a\n", "\x1b[2J", "\0", "a\u202eb", "\u200b", "\ud800", "\ufeffa", "a\u2028", 1, None, ["a"], b"a"],
)
def test_refuses_names_that_are_long_or_can_deceive(name: object) -> None:
    with pytest.raises(MalformedEvidence):
        as_name(name, limit=16)


READERS: list[Callable[[object], object]] = [
    from_base64,
    as_object,
    lambda value: as_list(value, limit=4),
    lambda value: as_name(value, limit=4),
]


@given(value=anything, read=st.sampled_from(READERS))
def test_any_value_is_read_or_refused(value: object, read: Callable[[object], object]) -> None:
    try:
        read(value)
    except MalformedEvidence:
        return


def test_a_document_has_so_many_members_and_no_more() -> None:
    """Each list and member takes a hundred times its own bytes in memory."""
    within = b'{"a":[' + b",".join([b"[]"] * (MAX_CONTAINERS - 2)) + b"]}"
    assert decode(within, limit=len(within)).keys() == {"a"}
    most = b'{"a":[' + b"0," * MAX_MEMBERS + b"0]}"
    assert decode(most, limit=len(most)).keys() == {"a"}
    for beyond in (within.replace(b"[]", b"[[]]", 1), b'{"a":[' + b"0," * (MAX_MEMBERS + 1) + b"0]}"):
        with pytest.raises(MalformedEvidence, match="too many members"):
            decode(beyond, limit=len(beyond))
