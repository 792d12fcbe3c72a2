"""Every view of the console, over a relay with real traffic, and then a search: what nobody may see is in none of them.

Secret are content, numbers, private keys, passwords, keys of access, codes, tokens and names that users gave. Public ids are not: who
looks at an account names it by one, and that is written down.
"""

import json
import secrets
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow, DeletedAccountRow
from messaging.relay.admin.desk import Desk, Operator, View, act, look
from messaging.relay.admin.operators import require_operator
from messaging.relay.admin.permissions import Permission, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.wire.assistants import AssistantLoad, AssistantReport, ReportedEvidence, ReportNonce
from messaging.wire.json import Entity
from messaging.wire.limits import MAX_DELIVERIES
from tests.desks import a_desk, an_operator
from tests.devices import Device, NewDevice, Peer
from tests.relays import Relays
from tests.secrecy import SHORTEST, holds_canary
from tests.system.test_canaries import Canaries, run_everything


async def an_assistant(peer: Peer) -> Device:
    """One that has reported."""
    scribe = await peer.register_assistant("scribe", NewDevice())
    path = "/v1/assistants/scribe/report"
    nonce = ReportNonce.from_json((await scribe.call("GET", path)).body).nonce
    evidence = ReportedEvidence(nonce=nonce, bundle=b"no bundle", release="1.0", measurement=bytes(48))
    load = AssistantLoad(waiting=0, serving=0, conversations=0, memory_mib=0)
    assert (await scribe.call("PUT", path, AssistantReport(load=load, evidence=evidence).to_json())).status == 204
    return scribe


async def public_ids(db: AsyncConnection) -> set[str]:
    """By which accounts are named, the deleted ones too."""
    found: set[str] = set()
    for row in (AccountRow, DeletedAccountRow):
        for aci, pni in await db.execute(select(row.aci, row.pni)):
            found |= {str(aci), aci.hex} | ({f"PNI:{pni}"} if pni else set())
    return found


async def parked_for(device: Device) -> None:
    """Fail to take what waits, so often that it is parked."""
    for _ in range(MAX_DELIVERIES):
        async with device.socket() as socket:
            request, _envelope = await socket.envelope()
            await socket.answer(request, 500)


async def what_operators_do(desk: Desk, operator: Operator, of: Device) -> list[str]:
    """Use what is shown once, and what looks a number up; returns what was shown."""
    invite = await perform(desk, operator, "invites.make", number=of.known.number)
    token = await perform(desk, operator, "tokens.make", name="script", permissions=[Permission.HEALTH_SEE.value])
    link = await perform(desk, operator, "operators.invite", role=Role.VIEWER.value)
    await perform(desk, operator, "accounts.suspend", aci=str(of.aci))
    await perform(desk, operator, "accounts.unsuspend", aci=str(of.aci))
    return [*invite, *token, *link]


async def perform(desk: Desk, operator: Operator, action_name: str, /, **parameters: Any) -> list[str]:
    action = ACTIONS[action_name]
    taken = action.takes.from_json(json.dumps(parameters).encode())
    return list((await act(desk, action, operator, taken, reason="a test")).shown.values())


def parameters_of(view: View[Any, Any], known: dict[str, Any]) -> list[Entity]:
    """All ways to ask a view that this test knows of: with what it needs alone, and with each of what it may be given."""
    schema = view.takes.model_json_schema(by_alias=True)
    needed = {name: known[name] for name in schema.get("required", ())}  # a view with new parameters needs a value here
    optional = [name for name in schema.get("properties", {}) if name in known and name not in needed]
    asked = [needed, *({**needed, name: known[name]} for name in optional)]
    return [view.takes.from_json(json.dumps(each).encode()) for each in asked]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_no_view_shows_what_nobody_may_see(relays: Relays, backend: str) -> None:
    canaries, sealed = Canaries(), secrets.token_bytes(24)
    async with aiohttp.ClientSession() as http:
        relay = await relays.start(backend)
        peer = Peer(relay, http)
        await run_everything(peer, canaries)
        ann, ben = await peer.register(), await peer.register()
        scribe = await an_assistant(peer)
        await ann.send(ben, sealed)
        await parked_for(ben)
        await ann.send(ben, sealed)
        for device in (ann, ben):
            canaries.add_device(device)
        async with a_desk(relay) as desk:
            async with desk.database.begin() as db:
                record = await require_operator(db, an_operator().id)
                public = await public_ids(db)
            operator = an_operator(number=record.id)
            shown_once = await what_operators_do(desk, operator, ben)
            canaries.add(*shown_once)
            assert len(shown_once) >= 3
            results: dict[str, bytes] = {}
            for aci in (str(ben.aci), str(scribe.aci)):
                known = {"aci": aci, "number": ben.known.number, "operatorId": record.id, "limit": 100, "bots": True}
                for view in VIEWS.values():
                    if (aci == str(scribe.aci)) != view.name.startswith("assistants."):
                        continue
                    for taken in parameters_of(view, known):
                        found = await look(desk, view, operator, taken)
                        results[view.name] = results.get(view.name, b"") + found.to_json()
    assert results.keys() == VIEWS.keys()
    looked_for = [each.encode() for each in canaries.secrets - public if len(each) >= SHORTEST]
    looked_for += [sealed, relay.settings.secret_file.read_bytes()] if relay.settings.secret_file else []
    for device in (ann, ben, scribe):
        looked_for += [device.known.identity.private, device.known.pni_identity.private, device.known.access_key]
    assert len(looked_for) > 25
    assert str(ben.aci).encode() in results["accounts.show"], "there was something to find"
    assert [name for name, result in results.items() if holds_canary(looked_for, result)] == []
