"""For every action and every view what an operator could ask for, drawn from a populated database.

An action or a view without an example here fails the tests that go through all of them.
"""

from collections.abc import Callable
from random import Random
from uuid import UUID

from messaging.relay.accounts.invites import Role as AccountRole
from messaging.relay.admin.abuse import ReportedPage
from messaging.relay.admin.accounts import AccountNamed, AccountSearch, DevicesNamed, LimitGranted, LimitNamed
from messaging.relay.admin.assistants import AssistantPage, OneAssistant
from messaging.relay.admin.audit_domain import AuditFilter, ExportFrom
from messaging.relay.admin.bots import BotPage
from messaging.relay.admin.desk import Nothing
from messaging.relay.admin.invites import InviteNamed, InvitePage, InviteWanted
from messaging.relay.admin.limits_and_config import ConfigChange, LimitChange, VersionNamed
from messaging.relay.admin.nodes import Drain, WhichNodes
from messaging.relay.admin.operators_domain import (
    ApprovalRule,
    CompanyAccount,
    Invitation,
    NewToken,
    OfOperator,
    OfToken,
    Page,
    PageBefore,
    RoleChange,
    SignInOf,
)
from messaging.relay.admin.parked import DeviceNamed, ParkedPage
from messaging.relay.admin.permissions import Permission, Role
from messaging.relay.limits import Limit
from messaging.wire.json import Entity
from tests.messaging.relay.admin.town import NUMBER, Resident, Town

Example = Callable[[Town, Random], Entity]


def _anybody(town: Town, draw: Random) -> UUID:
    return draw.choice([*town.people, *town.bots, *town.suspended, *town.assistants]).aci


def _active(town: Town, draw: Random) -> UUID:
    return draw.choice([*town.people, *town.bots, *town.assistants]).aci


def _with_grant(town: Town, draw: Random) -> UUID:
    return draw.choice([town.people[0], town.bots[0]]).aci


def _device(town: Town, draw: Random) -> DeviceNamed:
    owner: Resident = draw.choice([*town.people, *town.bots])
    return DeviceNamed(aci=owner.aci, device_id=draw.choice(list(owner.devices)))


def _linked(town: Town, draw: Random) -> DevicesNamed:
    return DevicesNamed(aci=draw.choice(town.people).aci, device_id=draw.choice([None, 2, 3]))


def _limit_change(_town: Town, draw: Random) -> LimitChange:
    limit = draw.choice([each for each in Limit if each is not Limit.MESSAGES])
    return LimitChange(
        limit=limit, bots=draw.random() < 0.5, at_once=draw.uniform(1, 1e6), refill_seconds=draw.uniform(0.001, 1e4)
    )


def _config_change(town: Town, draw: Random) -> ConfigChange:
    name = draw.choice(["new.look", "other"])
    if draw.random() < 0.3:
        return ConfigChange(name=name, hidden=True)
    accounts = tuple(person.aci for person in town.people if draw.random() < 0.5)
    return ConfigChange(name=name, value=str(draw.random()), percentage=draw.uniform(0, 100), accounts=accounts)


def _search(town: Town, draw: Random) -> AccountSearch:
    return draw.choice(
        [
            AccountSearch(),
            AccountSearch(number=NUMBER),
            AccountSearch(aci=_anybody(town, draw)),
            AccountSearch(username_hash=b"u" * 32),
            AccountSearch(bots=True, limit=1),
            AccountSearch(suspended=True),
        ]
    )


# Each is valid: the action does something, and is not refused.
ACTION_EXAMPLES: dict[str, Example] = {
    "abuse.dismiss": lambda town, draw: AccountNamed(
        aci=draw.choice([*(each.aci for each in town.people[:2]), town.deleted])
    ),
    "accounts.delete": lambda town, draw: AccountNamed(aci=_anybody(town, draw)),
    "accounts.suspend": lambda town, draw: AccountNamed(aci=_active(town, draw)),
    "accounts.unsuspend": lambda town, draw: AccountNamed(aci=draw.choice(town.suspended).aci),
    "approvals.require": lambda _town, draw: ApprovalRule(
        actions=tuple(draw.sample(["accounts.delete", "accounts.suspend"], draw.randint(0, 2))), version=0
    ),
    "assistants.drain": lambda town, _draw: OneAssistant(aci=str(town.assistants[0].aci)),
    "assistants.undrain": lambda town, _draw: OneAssistant(aci=str(town.assistants[1].aci)),
    "config.change": _config_change,
    "config.undo": lambda _town, draw: VersionNamed(version=draw.choice([0, 1])),
    "devices.revoke": _linked,
    "invites.make": lambda _town, draw: InviteWanted(
        role=draw.choice(list(AccountRole)), uses=draw.randint(1, 10_000), lifetime=draw.choice(["1m", "12h", "365d"])
    ),
    "invites.revoke": lambda town, draw: InviteNamed(id=draw.choice(town.invites)),
    "limits.change": _limit_change,
    "limits.grant": lambda town, draw: LimitGranted(
        aci=_anybody(town, draw),
        limit=draw.choice(list(Limit)),
        at_once=draw.uniform(1, 1e9),
        refill_seconds=draw.uniform(0.001, 1e4),
    ),
    "limits.undo": lambda _town, draw: VersionNamed(version=draw.choice([0, 1])),
    "limits.ungrant": lambda town, draw: LimitNamed(aci=_with_grant(town, draw), limit=Limit.MESSAGES),
    "nodes.drain": lambda town, draw: Drain(node=draw.choice(town.nodes[:2])),
    "nodes.stop_drain": lambda town, _draw: WhichNodes(node=town.nodes[2]),
    "operators.bind_oidc": lambda town, draw: CompanyAccount(
        operator_id=draw.choice(town.operators), issuer="https://id.example", subject="someone"
    ),
    "operators.change_role": lambda town, draw: RoleChange(operator_id=town.operators[2], role=draw.choice(list(Role))),
    "operators.disable": lambda town, draw: OfOperator(operator_id=draw.choice(town.operators[1:])),
    "operators.end_sign_in": lambda town, draw: SignInOf(operator_id=draw.choice(town.operators)),
    "operators.invite": lambda _town, draw: Invitation(role=draw.choice(list(Role))),
    "parked.drop": _device,
    "parked.retry": _device,
    "tokens.make": lambda _town, draw: NewToken(
        name="for a script", permissions=(draw.choice(list(Permission)).value,), days=draw.randint(1, 365)
    ),
    "tokens.revoke": lambda town, draw: OfToken(token_id=draw.choice(town.tokens)),
}
VIEW_EXAMPLES: dict[str, Example] = {
    "abuse.list": lambda _town, _draw: ReportedPage(),
    "accounts.report": lambda town, draw: AccountNamed(aci=draw.choice([_anybody(town, draw), town.deleted])),
    "accounts.search": _search,
    "accounts.show": lambda town, draw: AccountNamed(aci=_anybody(town, draw)),
    "assistants.list": lambda _town, _draw: AssistantPage(),
    "assistants.show": lambda town, draw: OneAssistant(aci=str(draw.choice(town.assistants).aci)),
    "audit.export": lambda _town, _draw: ExportFrom(),
    "audit.list": lambda _town, _draw: AuditFilter(),
    "bots.list": lambda _town, draw: BotPage(suspended=draw.random() < 0.5),
    "invites.list": lambda _town, _draw: InvitePage(),
    "operators.list": lambda _town, _draw: Page(),
    "operators.sign_ins": lambda town, draw: OfOperator(operator_id=draw.choice(town.operators)),
    "parked.list": lambda _town, _draw: ParkedPage(),
    "tokens.list": lambda _town, _draw: PageBefore(),
}


def example_of(name: str, takes: type[Entity], town: Town, *, seed: int = 0) -> Entity:
    """Parameters for the view or action of this name, other ones for each ``seed``."""
    example = ACTION_EXAMPLES.get(name) or VIEW_EXAMPLES.get(name)
    if example is None and takes is Nothing:
        return Nothing()
    assert example is not None, f"{name} has no example in tests/messaging/relay/admin/examples.py"
    return example(town, Random(seed))  # noqa: S311 - the same ones in each run
