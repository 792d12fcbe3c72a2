"""A policy that was accepted is never exchanged for an older one of the same key."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import UnsafeAcceptSimulated
from attestation.appraisal.policy_file import PolicyKey, PolicySigner
from attestation.errors import MalformedPolicy, PolicyExpired
from messaging.client import Store
from messaging.client.assistant_errors import AssistantError, PolicyDowngraded
from messaging.client.policies import accept_policy

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SIGNER = PolicySigner("clinic", Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = PolicySigner("clinic", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", bytes(32)) as opened:
        yield opened


def a_note(valid_from: datetime | None, *, signer: PolicySigner = SIGNER, more: str = "") -> bytes:
    dated = "" if valid_from is None else f"valid_from = {valid_from.isoformat()}\n"
    return signer.sign(f'policy = 1\nname = "a policy"\n{dated}{more}').encode()


async def accept(store: Store, valid_from: datetime | None, *, key: PolicyKey = SIGNER.key) -> datetime | None:
    return (await accept_policy(store, a_note(valid_from), key, NOW)).valid_from


@pytest.mark.parametrize("valid_from", [None, NOW - DAY, NOW])
async def test_the_first_policy_of_a_key_is_accepted_and_may_be_read_again(
    store: Store, valid_from: datetime | None
) -> None:
    assert await accept(store, valid_from) == valid_from
    assert await accept(store, valid_from) == valid_from


@pytest.mark.parametrize("older", [NOW - DAY - SECOND, None])
async def test_an_older_one_or_one_without_a_date_is_a_downgrade(store: Store, older: datetime | None) -> None:
    await accept(store, NOW - DAY)
    with pytest.raises(PolicyDowngraded, match="policy downgrade") as refused:
        await accept(store, older)
    assert isinstance(refused.value, AssistantError)
    assert refused.value.check == "policy downgrade"
    assert await accept(store, NOW - DAY) == NOW - DAY


async def test_a_newer_one_takes_the_place_of_the_one_before(store: Store) -> None:
    await accept(store, None)
    await accept(store, NOW - DAY)
    await accept(store, NOW - DAY + SECOND)
    with pytest.raises(PolicyDowngraded):
        await accept(store, NOW - DAY)


@pytest.mark.parametrize(("valid_from", "shuts_out"), [(NOW, True), (NOW + SECOND, False)])
async def test_one_whose_time_has_not_come_does_not_shut_out_the_present_one(
    store: Store, valid_from: datetime, shuts_out: bool
) -> None:
    await accept(store, NOW - DAY)
    policy = await accept_policy(store, a_note(valid_from), SIGNER.key, NOW)
    if shuts_out:
        with pytest.raises(PolicyDowngraded):
            await accept(store, NOW - DAY)
    else:
        with pytest.raises(PolicyExpired):
            policy.validate_time(NOW)
        assert await accept(store, NOW - DAY) == NOW - DAY


async def test_a_time_zone_does_not_make_a_policy_newer(store: Store) -> None:
    await accept(store, NOW - DAY)
    elsewhere = (NOW - DAY).astimezone(timezone(timedelta(hours=9)))
    assert await accept(store, elsewhere) == NOW - DAY
    with pytest.raises(PolicyDowngraded):
        await accept(store, elsewhere - SECOND)


async def test_each_key_is_remembered_by_itself(store: Store) -> None:
    await accept(store, NOW - DAY)
    older = NOW - DAY - SECOND
    policy = await accept_policy(store, a_note(older, signer=OTHER), OTHER.key, NOW)
    assert policy.valid_from == older


async def test_what_the_key_did_not_sign_is_neither_accepted_nor_remembered(store: Store) -> None:
    with pytest.raises(MalformedPolicy):
        await accept_policy(store, a_note(NOW, signer=OTHER), SIGNER.key, NOW)
    assert await accept(store, NOW - DAY) == NOW - DAY


async def test_it_is_remembered_when_the_store_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Store.open(path, bytes(32)) as store:
        await accept(store, NOW - DAY)
    async with Store.open(path, bytes(32)) as store:
        with pytest.raises(PolicyDowngraded):
            await accept(store, NOW - DAY - SECOND)


async def test_a_newer_policy_that_is_weaker_shows_its_exceptions_by_name(store: Store) -> None:
    await accept(store, NOW - DAY)
    weaker = a_note(NOW, more='unsafe = ["UnsafeAcceptSimulated"]\n')
    assert (await accept_policy(store, weaker, SIGNER.key, NOW)).unsafe == {UnsafeAcceptSimulated}


async def test_an_older_policy_is_refused_for_its_age_alone_and_not_shown(store: Store) -> None:
    await accept(store, NOW - DAY)
    with pytest.raises(PolicyDowngraded) as refused:
        await accept_policy(store, a_note(None, more="releases = []\n"), SIGNER.key, NOW)
    assert "a policy" not in str(refused.value)
