"""An assistant's device reports to a real relay, and hears why it may not."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client import CredentialsRevoked, Device, Relay, RelayRefused, RelayUnreachable, Store
from messaging.wire.assistants import AssistantLoad, AssistantReport, ReportedEvidence
from messaging.wire.limits import MAX_REPORTED_BUNDLE, MEASUREMENT, NONCE
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import KEY, Register
from tests.relays import Relays, StartedRelay

REPORT = AssistantReport(load=AssistantLoad(waiting=0, serving=0, conversations=0, memory_mib=0))


def with_evidence(nonce: bytes, size: int = 100) -> AssistantReport:
    evidence = ReportedEvidence(
        nonce=nonce, bundle=secrets.token_bytes(size), release="1.0", measurement=bytes(MEASUREMENT)
    )
    return REPORT.model_copy(update={"evidence": evidence})


@pytest.fixture
async def scribe(
    client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> AsyncIterator[Device]:
    """An assistant's device; it need not be connected."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(tmp_path / "scribe.db", KEY))
        token = sqlite_relay.assistant_token
        yield await Device.register_assistant(store, client_relay, crypto, name="scribe", token=token)


async def test_it_gets_a_nonce_and_reports_what_answers_it(scribe: Device) -> None:
    nonce = await scribe.report_nonce("scribe")
    assert len(nonce) == NONCE
    await scribe.report("scribe", with_evidence(nonce))
    with pytest.raises(RelayRefused):
        await scribe.report("scribe", with_evidence(nonce))
    await scribe.report("scribe", REPORT)


async def test_the_largest_report_is_taken(scribe: Device) -> None:
    nonce = await scribe.report_nonce("scribe")
    await scribe.report("scribe", with_evidence(nonce, MAX_REPORTED_BUNDLE))


async def test_nobody_reports_for_another(register: Register, scribe: Device) -> None:
    ann = await register("+4915550000252")
    with pytest.raises(RelayRefused):
        await ann.report_nonce("scribe")
    with pytest.raises(RelayRefused):
        await ann.report("scribe", REPORT)


async def test_one_that_was_registered_anew_elsewhere_is_told_so(
    scribe: Device, client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    async with Store.open(tmp_path / "successor.db", KEY) as store:
        token = sqlite_relay.assistant_token
        await Device.register_assistant(store, client_relay, crypto, name="scribe", token=token)
    with pytest.raises(CredentialsRevoked):
        await scribe.report("scribe", REPORT)


async def test_without_a_relay_it_is_unreachable(relays: Relays, scribe: Device) -> None:
    await relays.stop()
    with pytest.raises(RelayUnreachable):
        await scribe.report_nonce("scribe")
