"""What assistants report, who may, and which nonces count."""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from ai_enclave.limits import REPORT_EVERY
from messaging.relay.accounts.tables import AccountRow
from messaging.relay.assistants.reports import NONCE_RENEWED, NONCE_TAKEN, ReportService
from messaging.relay.assistants.tables import MAX_RELEASES, AssistantReleaseRow, AssistantReportRow
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.errors import InvalidRequest
from messaging.relay.http import Caller
from messaging.relay.limits import DEFAULTS, Limit
from messaging.wire.assistants import AssistantLoad, AssistantReport, ReportedEvidence, ReportNonce
from messaging.wire.limits import MAX_BODY, MAX_REPORTED_BUNDLE, MEASUREMENT, NONCE
from tests.devices import Device, MakePeer, NewDevice, Peer
from tests.relays import UNLIMITED, Relays, StartedRelay, unlimited

PATH = "/v1/assistants/scribe/report"
LOAD = AssistantLoad(waiting=2, serving=1, conversations=10, memory_mib=16)
MEASURED = bytes(range(MEASUREMENT))


def evidence(nonce: bytes, *, bundle: bytes = b"deflated", release: str = "1.0") -> ReportedEvidence:
    return ReportedEvidence(nonce=nonce, bundle=bundle, release=release, measurement=MEASURED)


def report(proof: ReportedEvidence | None) -> bytes:
    return AssistantReport(load=LOAD, evidence=proof).to_json()


async def nonce_of(scribe: Device) -> bytes:
    reply = await scribe.call("GET", PATH)
    assert reply.status == 200
    return ReportNonce.from_json(reply.body).nonce


@pytest.fixture
async def behind(relay: StartedRelay) -> AsyncIterator[Database]:
    """The relay's database."""
    opened = open_database(normalise_url(relay.settings.database_url))
    yield opened
    await opened.close()


async def kept(database: Database) -> dict[str, Any]:
    """The one report that there is."""
    async with database.read() as db:
        return dict((await db.execute(select(AssistantReportRow.__table__))).mappings().one())


async def test_a_report_is_kept_with_the_nonce_that_its_evidence_answers(behind: Database, peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    nonce = await nonce_of(scribe)
    assert len(nonce) == NONCE
    assert (await scribe.call("PUT", PATH, report(evidence(nonce)))).status == 204
    found = await kept(behind)
    assert (found["evidence_nonce"], found["bundle"], found["nonce"]) == (nonce, b"deflated", None)
    assert found["load"] == {"waiting": 2, "serving": 1, "conversations": 10, "memoryMib": 16}
    assert found["evidence_at"] <= found["reported_at"]


async def test_a_nonce_stays_until_it_is_answered_and_is_answered_once(peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    first = await nonce_of(scribe)
    assert await nonce_of(scribe) == first
    assert (await scribe.call("PUT", PATH, report(evidence(first)))).status == 204
    again = await scribe.call("PUT", PATH, report(evidence(first)))
    assert (again.status, again.json()) == (422, {"code": "invalid", "fields": ["nonce"]})
    assert await nonce_of(scribe) != first


async def test_evidence_over_a_nonce_of_ones_own_is_refused(peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    own = evidence(secrets.token_bytes(NONCE))
    assert (await scribe.call("PUT", PATH, report(own))).status == 422
    await nonce_of(scribe)
    assert (await scribe.call("PUT", PATH, report(own))).status == 422


async def test_a_report_without_evidence_leaves_the_last_one(behind: Database, peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    assert (await scribe.call("PUT", PATH, report(None))).status == 204
    assert (await kept(behind))["bundle"] is None
    assert (await scribe.call("PUT", PATH, report(evidence(await nonce_of(scribe))))).status == 204
    before = await kept(behind)
    assert (await scribe.call("PUT", PATH, report(None))).status == 204
    after = await kept(behind)
    assert (after["bundle"], after["evidence_at"]) == (b"deflated", before["evidence_at"])


async def test_nobody_else_may_report_or_hear_the_nonce(peer: Peer, alice: Device) -> None:
    await peer.register_assistant("scribe", NewDevice())
    other = await peer.register_assistant("other", NewDevice())
    for caller in (alice, other):
        assert (await caller.call("GET", PATH)).status == 403
        assert (await caller.call("PUT", PATH, report(None))).status == 403
    assert (await peer.call("GET", PATH)).status == 401
    assert (await peer.call("PUT", PATH, report(None))).status == 401


@pytest.mark.parametrize("exact", ["waiting", "serving", "conversations", "memoryMib"])
async def test_an_exact_number_is_not_taken(peer: Peer, exact: str) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    load = {"waiting": 0, "serving": 0, "conversations": 0, "memoryMib": 0}
    assert await scribe.set("PUT", PATH, {"load": load}) == 204
    assert await scribe.set("PUT", PATH, {"load": {**load, exact: 7}}) == 422


async def test_the_largest_bundle_fits_and_one_byte_more_does_not(peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    whole = report(evidence(await nonce_of(scribe), bundle=bytes(MAX_REPORTED_BUNDLE), release="x" * 128))
    assert len(whole) <= MAX_BODY
    assert (await scribe.call("PUT", PATH, whole)).status == 204
    larger = evidence(await nonce_of(scribe)).model_copy(update={"bundle": bytes(MAX_REPORTED_BUNDLE + 1)})
    assert (await scribe.call("PUT", PATH, report(larger))).status == 422


async def test_nonces_and_reports_have_a_limit_of_their_own_that_an_enclave_is_far_from(
    relays: Relays, peer_of: MakePeer
) -> None:
    bucket = DEFAULTS[Limit.ASSISTANT_REPORT]
    peer = peer_of(await relays.start("sqlite", limits={**UNLIMITED, Limit.ASSISTANT_REPORT: bucket}))
    scribe, other = [await peer.register_assistant(name, NewDevice()) for name in ("scribe", "other")]
    for _ in range(int(bucket.size) // 2):
        assert (await scribe.call("PUT", PATH, report(evidence(await nonce_of(scribe))))).status == 204
    for refused in (await scribe.call("GET", PATH), await scribe.call("PUT", PATH, report(None))):
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= bucket.refill
    assert (await other.call("GET", "/v1/assistants/other/report")).status == 200
    assert 2 * bucket.refill < REPORT_EVERY, "a nonce and a report"
    assert bucket.size >= 3 * 2 + 1  # one that is started three times, and drains


@pytest.mark.parametrize("release", ["a\x00b", "a\nb", "\x1b[2J", "\x7f", "\x85"])
async def test_a_release_is_a_name_that_can_be_printed(peer: Peer, release: str) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    good = report(evidence(await nonce_of(scribe), release="QQ"))
    refused = await scribe.call("PUT", PATH, good.replace(b'"QQ"', json.dumps(release).encode()))
    assert (refused.status, refused.json()["fields"]) == (422, ["evidence"])
    assert (await scribe.call("PUT", PATH, good)).status == 204


@pytest.fixture
async def service(behind: Database, peer: Peer) -> "Service":
    scribe = await peer.register_assistant("scribe", NewDevice())
    async with behind.read() as db:
        account: int = (await db.execute(select(AccountRow.id))).scalar_one()
    return Service(behind, Caller(account, scribe.aci.uuid, None, 1, 1))


class Service:
    """The service with a clock that a test sets."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self.now, self.caller, self.database = 1_000_000, caller, database
        self.service = ReportService(database, lambda: self.now, unlimited())

    async def nonce(self) -> bytes:
        return (await self.service.nonce("scribe", self.caller)).nonce

    async def take(self, proof: ReportedEvidence) -> None:
        await self.service.take("scribe", self.caller, AssistantReport(load=LOAD, evidence=proof))

    async def releases(self) -> list[tuple[str, int, int]]:
        row = AssistantReleaseRow
        query = select(row.release, row.first_seen_at, row.last_seen_at).order_by(row.first_seen_at)
        async with self.database.read() as db:
            return [(found[0], found[1], found[2]) for found in await db.execute(query)]


async def test_a_nonce_is_drawn_anew_when_it_is_old(service: Service) -> None:
    first = await service.nonce()
    service.now += NONCE_RENEWED - 1
    assert await service.nonce() == first
    service.now += 1
    assert await service.nonce() != first


async def test_evidence_may_take_its_time_but_not_for_ever(service: Service) -> None:
    nonce = await service.nonce()
    service.now += NONCE_TAKEN
    with pytest.raises(InvalidRequest):
        await service.take(evidence(nonce))
    service.now -= 1
    await service.take(evidence(nonce))


async def test_releases_are_remembered_from_first_to_last_sight_the_newest_of_them(service: Service) -> None:
    for release in ("1.0", "1.1", "1.0"):
        service.now += 1
        await service.take(evidence(await service.nonce(), release=release))
    assert await service.releases() == [("1.0", 1_000_001, 1_000_003), ("1.1", 1_000_002, 1_000_002)]
    for number in range(MAX_RELEASES - 1):
        service.now += 1
        await service.take(evidence(await service.nonce(), release=f"2.{number}"))
    found = [release for release, _, _ in await service.releases()]
    assert len(found) == MAX_RELEASES
    assert "1.1" not in found, "the one that was seen longest ago goes"
    assert "1.0" in found
