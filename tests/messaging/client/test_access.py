"""A profile key is the permission to send sealed, until the relay refuses what is derived from it."""

from collections.abc import AsyncIterator
from functools import reduce
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client import Store
from messaging.client.access import ANY_KEY, AccessKeys, access_key_of, combined
from messaging.wire.identifiers import ServiceId

BOB, CID = ServiceId(UUID(int=2)), ServiceId(UUID(int=3))
KEY, NEW = bytes(range(32)), b"\x07" * 32


@pytest.fixture
async def known() -> AsyncIterator[AccessKeys]:
    async with Store.open(":memory:", b"\x22" * 32) as store:
        yield AccessKeys(store)


# Made with libsignal 0.103.0 (Node): ``new ProfileKey(key).deriveAccessKey()``.
@pytest.mark.parametrize(
    ("profile_key", "access_key"),
    [
        (bytes(32), "cea7403d4d606b6e074ec5d3baf39d18"),
        (bytes(range(32)), "0ebcb5deb52c83bd08a8a935182c9199"),
        (b"\xff" * 32, "c7c96dffcd9cc01f120645ccfc24d400"),
    ],
)
def test_an_access_key_is_derived_as_libsignal_does(profile_key: bytes, access_key: str) -> None:
    assert access_key_of(profile_key).hex() == access_key


@pytest.mark.parametrize("size", [0, 16, 31, 33])
async def test_a_profile_key_has_32_bytes(size: int, known: AccessKeys) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        access_key_of(bytes(size))
    with pytest.raises(ValueError, match="32 bytes"):
        await known.learn(BOB, bytes(size))
    assert await known.find(BOB) is None


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_combined_keys_are_their_exclusive_or(keys: list[bytes]) -> None:
    one_by_one = reduce(lambda a, b: bytes(x ^ y for x, y in zip(a, b, strict=True)), keys, bytes(16))
    assert combined(keys) == one_by_one
    assert combined([*keys, ANY_KEY]) == combined(keys)


async def test_the_profile_key_that_was_learnt_last_counts(known: AccessKeys) -> None:
    await known.learn(BOB, KEY)
    await known.learn(BOB, NEW)
    assert await known.find(BOB) == access_key_of(NEW)
    assert await known.find_all([BOB, CID]) == {BOB: access_key_of(NEW)}


async def test_an_account_that_anybody_may_send_to_takes_any_key(known: AccessKeys) -> None:
    await known.learn(BOB, KEY)
    await known.mark_unrestricted(BOB)
    assert await known.find(BOB) == ANY_KEY
    await known.learn(BOB, NEW)
    assert await known.find(BOB) == ANY_KEY  # its key must not count in a combined one
    await known.forget(BOB, ANY_KEY)
    assert await known.find(BOB) == access_key_of(NEW)


async def test_only_the_key_that_was_refused_is_forgotten(known: AccessKeys) -> None:
    await known.learn(BOB, NEW)
    await known.forget(BOB, access_key_of(KEY))
    assert await known.find(BOB) == access_key_of(NEW)
    await known.forget(BOB, access_key_of(NEW))
    assert await known.find(BOB) is None
    await known.forget(BOB, access_key_of(NEW))
