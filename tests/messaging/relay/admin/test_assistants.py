"""What operators see of assistants, and that draining one is the directory's business and no enclave's."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from messaging.relay.accounts.tables import AccountRow
from messaging.relay.admin import assistants as domain
from messaging.relay.admin.assistants import NO_LOG, REPORT_STALE, AssistantPage, OneAssistant, state_of
from messaging.relay.admin.audit_tables import last_entry
from messaging.relay.admin.desk import Desk, Nothing, act, look
from messaging.relay.admin.errors import Conflict, NothingThere, NotPermitted, ReasonNeeded
from messaging.relay.admin.evidence import Appraisals, Appraised, Shown
from messaging.relay.admin.limits import MAX_APPRAISALS
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.assistants.tables import AssistantReportRow
from messaging.wire.assistants import AssistantDirectory, AssistantLoad, AssistantReport, ReportedEvidence, ReportNonce
from messaging.wire.limits import MEASUREMENT
from tests.consoles import StandingClock
from tests.desks import a_desk, an_operator
from tests.devices import Device, NewDevice, Peer
from tests.relays import StartedRelay

GOOD, OTHER = bytes(MEASUREMENT), b"\1" * MEASUREMENT
LOAD = AssistantLoad(waiting=5, serving=1, conversations=20, memory_mib=16)


@dataclass
class Judge:
    """Accepts one measurement, and notes what it was shown."""

    shown: list[Shown] = field(default_factory=list)

    def __call__(self, shown: Shown, now: int) -> Appraised:
        assert now > 0
        self.shown.append(shown)
        return Appraised(verdict="simulated", notice="SIMULATED", simulated=True, tee="SIMULATED", release="1.0")

    def accepts(self, measurement: bytes) -> bool | None:
        return measurement == GOOD


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
async def desk(relay: StartedRelay, judge: Judge) -> AsyncIterator[Desk]:
    async with a_desk(relay, appraise=judge) as made:
        yield made


@pytest.fixture
async def scribe(peer: Peer) -> Device:
    return await peer.register_assistant("scribe", NewDevice())


async def report(of: Device, name: str, measurement: bytes = GOOD, release: str = "1.0") -> bytes:
    """Report; returns the nonce."""
    path = f"/v1/assistants/{name}/report"
    nonce = ReportNonce.from_json((await of.call("GET", path)).body).nonce
    evidence = ReportedEvidence(nonce=nonce, bundle=b"bundle", release=release, measurement=measurement)
    assert (await of.call("PUT", path, AssistantReport(load=LOAD, evidence=evidence).to_json())).status == 204
    return nonce


async def lines(desk: Desk, **page: Any) -> tuple[list[tuple[str, str, str]], str | None]:
    found = await look(desk, VIEWS["assistants.list"], an_operator(), AssistantPage(**page))
    return [(each.name, each.state, each.verdict) for each in found.assistants], found.after


async def directory(peer: Peer) -> dict[str, bool]:
    found = AssistantDirectory.from_json((await peer.call("GET", "/v1/assistants")).body)
    return {each.name: each.accepting for each in found.assistants}


async def test_a_list_of_all_by_name_in_pages(desk: Desk, peer: Peer, scribe: Device, alice: Device) -> None:
    await peer.register_assistant("other", NewDevice())
    await report(scribe, "scribe")
    assert await lines(desk) == ([("other", "stale", "unread"), ("scribe", "ready", "simulated")], None)
    assert await lines(desk, limit=1) == ([("other", "stale", "unread")], "other")
    assert await lines(desk, after="other", limit=1) == ([("scribe", "ready", "simulated")], None)


async def test_the_evidence_is_judged_with_the_relays_nonce_and_the_accounts_key(
    desk: Desk, judge: Judge, scribe: Device
) -> None:
    nonce = await report(scribe, "scribe")
    found = await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=str(scribe.aci)))
    assert judge.shown == [Shown(b"bundle", nonce, scribe.known.identity.public)]
    assert (found.name, found.state, found.load) == ("scribe", "ready", LOAD)
    assert found.evidence.notice == "SIMULATED"
    assert found.evidence_at is not None
    assert found.reported_at is not None
    assert found.evidence_at <= found.reported_at


async def test_a_list_that_is_looked_at_again_soon_appraises_nothing_anew(
    relay: StartedRelay, judge: Judge, scribe: Device
) -> None:
    await report(scribe, "scribe")
    clock = StandingClock()
    async with a_desk(relay, appraise=judge, now=clock) as desk:
        appraised = []
        for wait in (0, 59_999, 1, 0):
            clock.advance(milliseconds=wait)
            await lines(desk)
            appraised.append(len(judge.shown))
        assert appraised == [1, 1, 2, 2]
        await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=str(scribe.aci)))
        assert len(judge.shown) == 3, "who looks at one sees what holds now"
        await report(scribe, "scribe")
        await lines(desk)
        assert len(judge.shown) == 4, "another report is other evidence"


async def test_so_many_appraisals_are_kept_and_no_more() -> None:
    judge, kept = Judge(), Appraisals()
    shown = [Shown(b"bundle", number.to_bytes(32), bytes(33)) for number in range(MAX_APPRAISALS + 1)]
    for each in [*shown, shown[1], shown[-1]]:
        await kept.of(judge, each, 1)
    assert judge.shown == shown
    await kept.of(judge, shown[0], 1)
    assert judge.shown[-1] == shown[0], "the oldest was forgotten"


async def test_one_that_has_reported_nothing_is_shown_as_that(desk: Desk, judge: Judge, scribe: Device) -> None:
    found = await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=str(scribe.aci)))
    assert (found.load, found.reported_at, judge.shown) == (None, None, [])
    assert found.evidence == domain.NO_EVIDENCE


async def test_without_somebody_who_reads_evidence_it_says_so(relay: StartedRelay, scribe: Device) -> None:
    await report(scribe, "scribe")
    async with a_desk(relay) as desk:
        found = await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=str(scribe.aci)))
    assert found.evidence == domain.NO_APPRAISER


async def test_a_load_of_another_version_is_left_out(desk: Desk, scribe: Device) -> None:
    await report(scribe, "scribe")
    async with desk.database.begin() as db:
        await db.execute(update(AssistantReportRow).values(load={"users": ["alice"]}))
    found = await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=str(scribe.aci)))
    assert found.load is None


async def test_people_and_strangers_are_no_assistants(desk: Desk, alice: Device) -> None:
    for aci in (str(alice.aci), "9d0652a3-dcc3-4d11-975f-74d61598733f", "-" * 36):
        with pytest.raises(NothingThere):
            await look(desk, VIEWS["assistants.show"], an_operator(), OneAssistant(aci=aci))
        with pytest.raises(NothingThere):
            await act(desk, ACTIONS["assistants.drain"], an_operator(), OneAssistant(aci=aci), reason="why")


async def test_a_drained_assistant_is_listed_as_not_accepting_whatever_it_says(
    desk: Desk, peer: Peer, scribe: Device
) -> None:
    await report(scribe, "scribe")
    one = OneAssistant(aci=str(scribe.aci))
    done = await act(desk, ACTIONS["assistants.drain"], an_operator(), one, reason="new release")
    assert [(effect.what, effect.count) for effect in done.effects] == [("assistants", 1)]
    assert await scribe.set("PUT", "/v1/assistants/scribe/state", {"accepting": True}) == 204
    assert await directory(peer) == {"scribe": False}
    assert (await lines(desk))[0] == [("scribe", "drained", "simulated")]
    await peer.register_assistant("scribe", NewDevice())
    assert await directory(peer) == {"scribe": False}, "its successor is drained, too"
    await act(desk, ACTIONS["assistants.undrain"], an_operator(), one)
    assert await directory(peer) == {"scribe": True}
    async with desk.database.read() as db:
        entry = await last_entry(db)
    assert entry is not None
    assert (entry.said.action, entry.said.subject) == ("assistants.undrain", "assistant scribe")


async def test_a_dry_run_drains_nothing(desk: Desk, peer: Peer, scribe: Device) -> None:
    one = OneAssistant(aci=str(scribe.aci))
    done = await act(desk, ACTIONS["assistants.drain"], an_operator(), one, dry_run=True)
    assert done.subject == "assistant scribe"
    assert await directory(peer) == {"scribe": True}


async def test_draining_twice_is_a_conflict_and_needs_a_reason_and_a_role(desk: Desk, scribe: Device) -> None:
    one, drain = OneAssistant(aci=str(scribe.aci)), ACTIONS["assistants.drain"]
    with pytest.raises(ReasonNeeded):
        await act(desk, drain, an_operator(), one)
    with pytest.raises(NotPermitted):
        await act(desk, drain, an_operator(Role.SUPPORT), one, reason="why")
    with pytest.raises(Conflict):
        await act(desk, ACTIONS["assistants.undrain"], an_operator(), one)
    await act(desk, drain, an_operator(Role.SECURITY), one, reason="why")
    with pytest.raises(Conflict):
        await act(desk, drain, an_operator(), one, reason="why")


async def test_releases_are_listed_once_with_who_named_them_and_whether_the_policy_accepts_them(
    desk: Desk, peer: Peer, scribe: Device
) -> None:
    other = await peer.register_assistant("other", NewDevice())
    await report(scribe, "scribe", OTHER)
    await report(scribe, "scribe")
    await report(other, "other")
    found = await look(desk, VIEWS["releases.list"], an_operator(Role.VIEWER), Nothing())
    assert found.notice == NO_LOG
    assert [(each.measurement, each.accepted, each.assistants) for each in found.releases] == [
        (GOOD.hex(), True, ["other", "scribe"]),
        (OTHER.hex(), False, ["scribe"]),
    ]
    assert all(each.first_seen_at <= each.last_seen_at for each in found.releases)


@pytest.mark.parametrize(
    ("accepting", "drained", "reported_at", "state"),
    [
        (True, False, 1_000, "ready"),
        (True, False, 999, "stale"),
        (True, False, None, "stale"),
        (False, False, None, "draining"),
        (True, True, 1_000, "drained"),
        (False, True, None, "drained"),
    ],
)
def test_the_state_says_what_matters_most(accepting: bool, drained: bool, reported_at: int | None, state: str) -> None:
    now = 1_000 + REPORT_STALE
    assert state_of(accepting=accepting, drained=drained, reported_at=reported_at, now=now) == state


async def test_a_report_goes_with_its_account(desk: Desk, scribe: Device) -> None:
    await report(scribe, "scribe")
    async with desk.database.begin() as db:
        await db.execute(delete(AccountRow))
        assert (await db.execute(select(AssistantReportRow.account_id))).all() == []
