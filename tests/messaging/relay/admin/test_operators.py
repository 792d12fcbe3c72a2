"""Operators behind the web: what each may now, links, tokens, and the rules for changing them, through the desk as everybody goes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, text, update
from sqlalchemy.engine import make_url

from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Desk, Done, Operator, act, approve, look, reject
from messaging.relay.admin.door import Door, NotRight, is_at_risk, operator_of
from messaging.relay.admin.enrolments import EnrolmentGone
from messaging.relay.admin.errors import (
    AdminError,
    Conflict,
    InvalidInput,
    NothingThere,
    NotPermitted,
    NotSignedIn,
    ReasonNeeded,
    SecondOperatorNeeded,
    TooManyTries,
)
from messaging.relay.admin.keeping import Kind, SealBroken, as_meant, hash_of, new_code, seal, unseal
from messaging.relay.admin.limits import (
    MAX_GIVEN,
    MAX_NAME,
    MAX_NAMED,
    MAX_OWN_PROPOSALS,
    MAX_PASSKEYS,
    MAX_TOKENS,
    RECOVERY_CODES,
    SECOND_FACTOR_TRIES,
    SIGN_IN_TRIES,
)
from messaging.relay.admin.limits_and_config import LimitChange, VersionNamed
from messaging.relay.admin.operator_tables import ChallengeRow, EnrolmentRow, OperatorRow, SignInRow, TryRow
from messaging.relay.admin.operators import (
    OperatorRecord,
    add_operator,
    check_name,
    find_by_name,
    find_operator,
    lock_operator,
    lock_with_owners,
    require_operator,
    set_role,
)
from messaging.relay.admin.operators_domain import (
    ALWAYS_TOGETHER,
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
from messaging.relay.admin.passkeys import NewPasskey, add_passkey
from messaging.relay.admin.permissions import GRANTED, Permission, Role
from messaging.relay.admin.proposals import Proposal, find_proposal
from messaging.relay.admin.recovery import STEP, matching_step, set_totp, whose_code
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.admin.sign_ins import Method, SignIn
from messaging.relay.admin.tries import count_try, network_of
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.limits import Limit
from messaging.relay.server_secret import ServerSecret
from messaging.wire.json import Entity
from tests.consoles import StandingClock

SECRET = ServerSecret.derive(bytes(32))
HOME = "127.0.0.1"


class Place:
    """A desk and a door to one database."""

    def __init__(self, database: Database) -> None:
        self.clock = StandingClock()
        self.door = Door(database, SECRET, self.clock)
        self.desk = Desk(database, make_url("sqlite://"), LocalWakeups(), SECRET, None, self.clock)
        self._made = 0

    async def operator(self, role: Role, name: str) -> Operator:
        """Somebody who has just enrolled."""
        self._made += 1
        code = await self.door.invite_by_terminal(role, None)
        entered = await self.door.enrol(code, name, self.passkey(), "Firefox on Linux")
        return operator_of(*await self.door.who(entered.value), self.clock())

    def passkey(self) -> NewPasskey:
        self._made += 1
        return NewPasskey(self._made.to_bytes(32), b"COSE", 0, "a key")

    async def act(self, name: str, by: Operator, parameters: Entity, *, dry_run: bool = False) -> Done:
        return await act(self.desk, ACTIONS[name], by, parameters, reason="a test", dry_run=dry_run)

    async def role_of(self, operator: Operator) -> Role:
        async with self.desk.database.read() as db:
            found = await find_operator(db, operator.id)
        assert found is not None
        return found.role


@pytest.fixture
async def place(database: Database) -> Place:
    """An empty deployment."""
    return Place(database)


@pytest.fixture
async def ada(place: Place) -> Operator:
    """The owner."""
    return await place.operator(Role.OWNER, "Ada")


# --- enrolment ---


async def test_the_first_code_is_there_while_nobody_is_and_only_the_latest_is_good(place: Place) -> None:
    first, second = await place.door.first_code(), await place.door.first_code()
    assert first is not None
    assert second is not None
    with pytest.raises(EnrolmentGone):
        await place.door.enrol(first, "Eve", place.passkey(), "")
    entered = await place.door.enrol(second, "Ada", place.passkey(), "")
    assert entered.record.role is Role.OWNER
    assert await place.door.first_code() is None


async def test_the_first_code_is_worth_nothing_once_somebody_is_there_by_another(place: Place) -> None:
    code = await place.door.first_code()
    assert code is not None
    await place.operator(Role.OWNER, "Ada")
    with pytest.raises(EnrolmentGone):
        await place.door.enrol(code, "Eve", place.passkey(), "")


async def test_the_first_operator_is_an_owner(place: Place) -> None:
    with pytest.raises(InvalidInput):
        await place.door.invite_by_terminal(Role.VIEWER, None)


async def test_a_link_gives_the_role_that_it_was_made_for(place: Place, ada: Operator) -> None:
    done = await place.act("operators.invite", ada, Invitation(role=Role.SUPPORT))
    entered = await place.door.enrol(done.shown["path"].removeprefix("/enrol#"), "Grace", place.passkey(), "")
    assert entered.record.role is Role.SUPPORT
    assert operator_of(*await place.door.who(entered.value), place.clock()).permissions == GRANTED[Role.SUPPORT]


async def test_a_link_is_for_a_role_or_for_an_operator(place: Place, ada: Operator) -> None:
    for given in (Invitation(), Invitation(role=Role.VIEWER, operator_id=ada.id)):
        with pytest.raises(InvalidInput):
            await place.act("operators.invite", ada, given)


async def test_what_a_dry_run_makes_is_not_shown_and_not_there(place: Place, ada: Operator) -> None:
    tried = await place.act("operators.invite", ada, Invitation(role=Role.VIEWER), dry_run=True)
    assert tried.shown == {}
    assert [effect.what for effect in tried.effects] == ["enrolment links"]


@pytest.mark.parametrize("name", ["", " ", "x" * (MAX_NAME + 1), "a\nb", "a\u202eb", "a\u200bb"])
def test_a_name_can_be_seen(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_name(name)


def test_a_name_may_be_as_long_as_that() -> None:
    assert check_name(f" {'x' * MAX_NAME} ") == "x" * MAX_NAME


@pytest.mark.parametrize("name", ["terminal", "the start of the console"])
async def test_nobody_takes_the_name_of_what_stands_in_the_log_for_nobody(
    place: Place, ada: Operator, name: str
) -> None:
    done = await place.act("operators.invite", ada, Invitation(role=Role.VIEWER))
    with pytest.raises(Conflict):
        await place.door.enrol(done.shown["path"].removeprefix("/enrol#"), name, place.passkey(), "")


# --- the last owner ---


async def test_the_last_owner_stays_one(place: Place, ada: Operator) -> None:
    with pytest.raises(Conflict):
        await place.act("operators.disable", ada, OfOperator(operator_id=ada.id))
    with pytest.raises(Conflict):
        await place.act("operators.change_role", ada, RoleChange(operator_id=ada.id, role=Role.SECURITY))
    assert await place.role_of(ada) is Role.OWNER


async def test_an_owner_who_is_disabled_does_not_count(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("operators.disable", ada, OfOperator(operator_id=grace.id))
    with pytest.raises(Conflict):
        await place.act("operators.disable", ada, OfOperator(operator_id=ada.id))


async def test_one_of_two_owners_may_go(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("operators.change_role", grace, RoleChange(operator_id=ada.id, role=Role.VIEWER))
    assert await place.role_of(ada) is Role.VIEWER


# --- what ends ---


async def test_another_role_and_disabling_end_sign_ins_tokens_and_links(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    link = (await place.act("operators.invite", grace, Invitation(role=Role.OWNER))).shown["path"]
    token = (await place.act("tokens.make", grace, NewToken(name="t", permissions=("operators.manage",)))).shown[
        "token"
    ]
    done = await place.act("operators.change_role", ada, RoleChange(operator_id=grace.id, role=Role.VIEWER))
    assert [(effect.what, effect.count) for effect in done.effects] == [("operators", 1), ("sign-ins", 1)]
    with pytest.raises(EnrolmentGone):
        await place.door.enrolment(link.removeprefix("/enrol#"))
    assert (await place.door.bearer(token, HOME, "api")).permissions == frozenset()
    await place.act("operators.disable", ada, OfOperator(operator_id=grace.id))
    with pytest.raises(NotSignedIn):
        await place.door.bearer(token, HOME, "api")


async def test_who_is_disabled_is_not_let_in_by_what_they_had(place: Place, ada: Operator) -> None:
    code = await place.door.invite_by_terminal(Role.VIEWER, None)
    new = place.passkey()
    entered = await place.door.enrol(code, "Grace", new, "")
    record, sign_in = await place.door.who(entered.value)
    codes = await place.door.make_recovery_codes(record, sign_in)
    await place.act("operators.disable", ada, OfOperator(operator_id=record.id))
    with pytest.raises(NotSignedIn):
        await place.door.who(entered.value)
    with pytest.raises(NotSignedIn):
        await place.door.passkey(new.credential_id)
    with pytest.raises(NotSignedIn):
        await place.door.recover(codes[0], "", HOME, "")
    with pytest.raises(NothingThere):
        await place.door.invite_by_terminal(None, "Grace")


async def test_an_operator_is_signed_out_by_who_may(place: Place, ada: Operator) -> None:
    code = await place.door.invite_by_terminal(Role.VIEWER, None)
    entered = await place.door.enrol(code, "Grace", place.passkey(), "")
    grace = operator_of(*await place.door.who(entered.value), place.clock())
    listed = await look(place.desk, VIEWS["operators.sign_ins"], ada, OfOperator(operator_id=grace.id))
    name = listed.sign_ins[0].id
    with pytest.raises(NotPermitted):
        await place.act("operators.end_sign_in", grace, SignInOf(operator_id=ada.id))
    with pytest.raises(NothingThere):
        await place.act("operators.end_sign_in", ada, SignInOf(operator_id=ada.id, sign_in=name))
    await place.act("operators.end_sign_in", ada, SignInOf(operator_id=grace.id, sign_in=name))
    with pytest.raises(NotSignedIn):
        await place.door.who(entered.value)


# --- tokens ---


async def test_a_token_has_no_more_than_its_operator(place: Place, ada: Operator) -> None:
    vera = await place.operator(Role.VIEWER, "Vera")
    with pytest.raises(NotPermitted):
        await place.act("tokens.make", vera, NewToken(name="t", permissions=("operators.manage",)))
    for wrong in ((), ("everything",)):
        with pytest.raises(InvalidInput):
            await place.act("tokens.make", ada, NewToken(name="t", permissions=wrong))


async def test_a_token_makes_no_tokens(place: Place, ada: Operator) -> None:
    made = await place.act("tokens.make", ada, NewToken(name="t", permissions=("tokens.make",)))
    program = await place.door.bearer(made.shown["token"], HOME, "api")
    assert program.permissions == {Permission.TOKENS_MAKE}
    with pytest.raises(NotPermitted):
        await place.act("tokens.make", program, NewToken(name="u", permissions=("tokens.make",)))


async def test_a_token_ends_when_it_was_said_and_not_before(place: Place, ada: Operator) -> None:
    made = await place.act("tokens.make", ada, NewToken(name="t", permissions=("health.see",), days=1))
    place.clock.advance(minutes=24 * 60)
    place.clock.advance(milliseconds=-1)
    await place.door.bearer(made.shown["token"], HOME, "api")
    place.clock.advance(milliseconds=1)
    with pytest.raises(NotSignedIn):
        await place.door.bearer(made.shown["token"], HOME, "api")


@pytest.mark.parametrize(("days", "good"), [(0, False), (1, True), (365, True), (366, False)])
async def test_a_token_lives_for_a_day_to_a_year(place: Place, ada: Operator, *, days: int, good: bool) -> None:
    token = NewToken(name="t", permissions=("health.see",), days=days)
    if good:
        await place.act("tokens.make", ada, token)
    else:
        with pytest.raises(InvalidInput):
            await place.act("tokens.make", ada, token)


async def test_an_operator_has_so_many_tokens_and_revoked_ones_make_room(place: Place, ada: Operator) -> None:
    token = NewToken(name="t", permissions=("health.see",))
    made = [await place.act("tokens.make", ada, token) for _ in range(MAX_TOKENS)]
    with pytest.raises(Conflict):
        await place.act("tokens.make", ada, token)
    number = int(made[0].subject.removeprefix("token "))
    await place.act("tokens.revoke", ada, OfToken(token_id=number))
    await place.act("tokens.make", ada, token)


async def test_a_token_is_revoked_by_whose_it_is_and_by_an_owner(place: Place, ada: Operator) -> None:
    vera, eve = await place.operator(Role.VIEWER, "Vera"), await place.operator(Role.VIEWER, "Eve")
    token = NewToken(name="t", permissions=("health.see",))
    numbers = [int((await place.act("tokens.make", vera, token)).subject.removeprefix("token ")) for _ in range(2)]
    with pytest.raises(NothingThere):
        await place.act("tokens.revoke", eve, OfToken(token_id=numbers[0]))
    await place.act("tokens.revoke", vera, OfToken(token_id=numbers[0]))
    await place.act("tokens.revoke", ada, OfToken(token_id=numbers[1]))
    assert (await look(place.desk, VIEWS["tokens.list"], ada, PageBefore())).tokens == ()


# --- what needs two ---


async def test_a_rule_for_two_needs_two_and_binds_those_who_could_undo_it(place: Place, ada: Operator) -> None:
    rule = ApprovalRule(actions=("accounts.delete",), version=0)
    with pytest.raises(Conflict):
        await place.act("approvals.require", ada, rule)
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("approvals.require", ada, rule)
    with pytest.raises(SecondOperatorNeeded) as waiting:
        await place.act("approvals.require", ada, ApprovalRule(actions=(), version=1))
    for action, parameters in (
        ("operators.invite", Invitation(role=Role.OWNER)),
        ("operators.change_role", RoleChange(operator_id=grace.id, role=Role.OWNER)),
        ("operators.bind_oidc", CompanyAccount(operator_id=grace.id, issuer="https://i", subject="s")),
    ):
        assert action in ALWAYS_TOGETHER
        with pytest.raises(SecondOperatorNeeded):
            await place.act(action, ada, parameters)
    async with place.desk.database.read() as db:
        proposal = await find_proposal(db, waiting.value.proposal)
    assert proposal is not None
    with pytest.raises(NotPermitted):
        await approve(place.desk, ACTIONS["approvals.require"], ada, proposal)
    await approve(place.desk, ACTIONS["approvals.require"], grace, proposal)
    await place.act("operators.invite", ada, Invitation(role=Role.OWNER))


async def test_where_something_waits_for_two_two_owners_stay(place: Place, ada: Operator) -> None:
    grace, joan = await place.operator(Role.OWNER, "Grace"), await place.operator(Role.OWNER, "Joan")
    await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    await disable_together(place, ada, grace, joan)
    with pytest.raises(Conflict):
        await disable_together(place, ada, grace, grace)


async def disable_together(place: Place, by: Operator, with_: Operator, whom: Operator) -> None:
    with pytest.raises(SecondOperatorNeeded) as waiting:
        await place.act("operators.disable", by, OfOperator(operator_id=whom.id))
    async with place.desk.database.read() as db:
        proposal = await find_proposal(db, waiting.value.proposal)
    assert proposal is not None
    await approve(place.desk, ACTIONS["operators.disable"], with_, proposal)


async def test_a_rule_names_actions_that_there_are_and_the_version_that_was_seen(place: Place, ada: Operator) -> None:
    await place.operator(Role.OWNER, "Grace")
    with pytest.raises(InvalidInput):
        await place.act("approvals.require", ada, ApprovalRule(actions=("nothing.at_all",), version=0))
    with pytest.raises(Conflict):
        await place.act("approvals.require", ada, ApprovalRule(actions=(), version=7))


async def test_proposals_are_shown_to_who_could_do_them(place: Place, ada: Operator) -> None:
    grace, vera = await place.operator(Role.OWNER, "Grace"), await place.operator(Role.VIEWER, "Vera")
    await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    with pytest.raises(SecondOperatorNeeded):
        await place.act("operators.disable", ada, OfOperator(operator_id=vera.id))
    nothing = VIEWS["proposals.list"].takes()
    seen = [
        [each.action for each in (await look(place.desk, VIEWS["proposals.list"], who, nothing)).proposals]
        for who in (grace, vera)
    ]
    assert seen == [["operators.disable"], []]


async def proposed(place: Place, name: str, by: Operator, parameters: Entity) -> Proposal:
    with pytest.raises(SecondOperatorNeeded) as waiting:
        await place.act(name, by, parameters)
    async with place.desk.database.read() as db:
        found = await find_proposal(db, waiting.value.proposal)
    assert found is not None
    return found


async def outcomes(place: Place) -> list[tuple[str, str]]:
    return [(each.said.action, each.said.outcome.value) async for each in all_entries(place.desk.database)]


async def test_links_from_before_a_rule_for_two_are_worth_nothing(place: Place, ada: Operator) -> None:
    await place.operator(Role.OWNER, "Grace")
    path = (await place.act("operators.invite", ada, Invitation(role=Role.OWNER))).shown["path"]
    done = await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    assert [(each.what, each.count) for each in done.effects][1:] == [("links", 1)]
    with pytest.raises(EnrolmentGone):
        await place.door.enrol(path.partition("#")[2], "Puppet", place.passkey(), "")


async def test_a_rule_binds_who_was_let_in_before_it(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    results = await asyncio.gather(
        place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0)),
        *(place.act("operators.invite", grace, Invitation(role=Role.OWNER)) for _ in range(5)),
        return_exceptions=True,
    )
    assert isinstance(results[0], Done)
    told = await outcomes(place)
    assert ("operators.invite", "done") not in told[told.index(("approvals.require", "done")) :]


async def test_a_rule_for_a_change_holds_for_undoing_it(place: Place, ada: Operator) -> None:
    await place.operator(Role.OWNER, "Grace")
    await place.act("limits.change", ada, LimitChange(limit=Limit.MESSAGES, at_once=5.0, refill_seconds=1.0))
    await place.act("approvals.require", ada, ApprovalRule(actions=("limits.change",), version=0))
    await proposed(place, "limits.undo", ada, VersionNamed(version=0))


async def test_a_rule_is_not_about_tokens(place: Place, ada: Operator) -> None:
    await place.operator(Role.OWNER, "Grace")
    with pytest.raises(InvalidInput):
        await place.act("approvals.require", ada, ApprovalRule(actions=("tokens.make",), version=0))


async def test_one_operator_proposes_so_much_and_may_withdraw_it(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    invitation = Invitation(role=Role.VIEWER)
    waiting = [await proposed(place, "operators.invite", ada, invitation) for _ in range(MAX_OWN_PROPOSALS)]
    with pytest.raises(Conflict):
        await place.act("operators.invite", ada, invitation)
    await proposed(place, "operators.invite", grace, invitation)
    await reject(place.desk, ACTIONS["operators.invite"], ada, waiting[0])
    await proposed(place, "operators.invite", ada, invitation)


async def test_what_somebody_proposed_goes_with_them(place: Place, ada: Operator) -> None:
    grace, joan = await place.operator(Role.OWNER, "Grace"), await place.operator(Role.OWNER, "Joan")
    await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    theirs = await proposed(place, "operators.invite", joan, Invitation(role=Role.OWNER))
    await disable_together(place, ada, grace, joan)
    with pytest.raises(Conflict):
        await approve(place.desk, ACTIONS["operators.invite"], grace, theirs)


async def test_what_somebody_may_not_do_any_more_is_not_done_for_them(place: Place, ada: Operator) -> None:
    grace, joan = await place.operator(Role.OWNER, "Grace"), await place.operator(Role.OWNER, "Joan")
    await place.act("approvals.require", ada, ApprovalRule(actions=("accounts.delete",), version=0))
    theirs = await proposed(place, "operators.invite", joan, Invitation(role=Role.OWNER))
    change = await proposed(place, "operators.change_role", ada, RoleChange(operator_id=joan.id, role=Role.VIEWER))
    await approve(place.desk, ACTIONS["operators.change_role"], grace, change)
    with pytest.raises(Conflict):
        await approve(place.desk, ACTIONS["operators.invite"], grace, theirs)


async def test_whoever_was_let_in_before_they_were_disabled_does_nothing(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("operators.disable", ada, OfOperator(operator_id=grace.id))
    for dry_run in (False, True):
        with pytest.raises(NotPermitted):
            await place.act("operators.invite", grace, Invitation(role=Role.OWNER), dry_run=dry_run)
    assert (await outcomes(place))[-2:] == [("operators.invite", "refused")] * 2


async def test_a_token_that_was_revoked_meanwhile_does_nothing(place: Place, ada: Operator) -> None:
    made = await place.act("tokens.make", ada, NewToken(name="t", permissions=("operators.manage",)))
    by_token = await place.door.bearer(made.shown["token"], HOME, "api")
    vera = await place.operator(Role.VIEWER, "Vera")
    await place.act("tokens.revoke", ada, OfToken(token_id=by_token.token_id or 0))
    with pytest.raises(NotPermitted):
        await place.act("operators.disable", by_token, OfOperator(operator_id=vera.id))


async def test_a_link_is_worth_nothing_when_its_maker_may_make_none_any_more(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    path = (await place.act("operators.invite", grace, Invitation(role=Role.OWNER))).shown["path"]
    async with place.desk.database.begin() as db:  # as if the link were made while its maker was disabled
        await db.execute(update(OperatorRow).where(OperatorRow.id == grace.id).values(disabled_at=1))
    with pytest.raises(EnrolmentGone):
        await place.door.enrol(path.partition("#")[2], "Puppet", place.passkey(), "")


@pytest.mark.parametrize("name", sorted(ALWAYS_TOGETHER - {"operators.disable"}))
async def test_what_makes_operators_is_not_for_tokens(place: Place, ada: Operator, name: str) -> None:
    made = await place.act("tokens.make", ada, NewToken(name="t", permissions=("operators.manage",)))
    by_token = await place.door.bearer(made.shown["token"], HOME, "api")
    given = {"operatorId": ada.id, "role": "viewer", "issuer": "i", "actions": [], "version": 0}
    with pytest.raises(NotPermitted, match="token"):
        await place.act(name, by_token, ACTIONS[name].takes.model_validate(given, strict=False))


async def test_what_opens_a_door_needs_a_fresh_sign_in(place: Place, ada: Operator) -> None:
    code = await place.door.invite_by_terminal(Role.OWNER, None)
    entered = await place.door.enrol(code, "Grace", place.passkey(), "")
    stale: Entity
    place.clock.advance(minutes=15)
    grace = operator_of(*await place.door.who(entered.value), place.clock())
    for name, stale in (
        ("operators.invite", Invitation(role=Role.OWNER)),
        ("operators.bind_oidc", CompanyAccount(operator_id=grace.id, issuer="https://i", subject="s")),
        ("tokens.make", NewToken(name="t", permissions=("health.see",))),
    ):
        with pytest.raises(NotPermitted, match="again"):
            await place.act(name, grace, stale)
        await place.act(name, replace(grace, fresh=True), stale)


def test_a_list_of_names_is_bounded_and_logged_once_each() -> None:
    assert ApprovalRule(actions=("b", "a", "b"), version=0).actions == ("a", "b")
    assert ApprovalRule(actions=("a",) * MAX_NAMED, version=0).actions == ("a",)
    with pytest.raises(ValidationError):
        ApprovalRule(actions=("a",) * (MAX_NAMED + 1), version=0)


async def test_what_goes_into_the_log_is_bounded(place: Place, ada: Operator) -> None:
    around = len('{"actions": [""], "version": 0}')
    for letters, named in ((MAX_GIVEN - around, ("actions",)), (MAX_GIVEN - around + 1, ())):
        with pytest.raises(InvalidInput) as refused:
            await place.act("approvals.require", ada, ApprovalRule(actions=("x" * letters,), version=0))
        assert refused.value.fields == named


@pytest.mark.parametrize("name", ["ada", "ＡＤＡ", "Terminal", "The Start of the Console"])
async def test_names_that_look_the_same_are_the_same(place: Place, ada: Operator, name: str) -> None:
    with pytest.raises(Conflict):
        await place.operator(Role.VIEWER, name)


@pytest.mark.parametrize("name", ["Grace", "GRACE", "\uff27\uff32\uff21\uff23\uff25"])
async def test_of_two_with_one_name_at_the_same_moment_the_second_hears_that_it_is_taken(
    place: Place, ada: Operator, name: str
) -> None:
    code = await place.door.invite_by_terminal(Role.VIEWER, None)
    async with place.desk.database.begin() as db:
        await add_operator(db, handle=bytes(32), name="Grace", role=Role.VIEWER, now=0)
        second = asyncio.create_task(place.door.enrol(code, name, place.passkey(), ""))
        await until_it_waits(second, place.desk.database)
    with pytest.raises(Conflict, match="Somebody has this name already"):
        await second
    await place.door.enrol(code, "Joan", place.passkey(), "")  # the link stays good for another name


async def test_a_name_may_be_of_letters_that_stand_for_many(place: Place, ada: Operator) -> None:
    await place.operator(Role.VIEWER, "\ufdfa" * MAX_NAME)
    with pytest.raises(Conflict):
        await place.operator(Role.VIEWER, "\ufdfa" * MAX_NAME)


async def test_of_two_passkeys_that_are_removed_at_once_one_stays(place: Place, ada: Operator) -> None:
    async with place.desk.database.read() as db:
        record = await find_by_name(db, "Ada")
    assert record is not None
    sign_in = SignIn(b"x", ada.id, Method.PASSKEY, place.clock.now, place.clock.now, "")
    await place.door.add_own_passkey(record, sign_in, place.passkey())
    kept = (await place.door.means_of(record)).passkeys
    await asyncio.gather(
        *(place.door.remove_own_passkey(record, sign_in, each.credential_id) for each in kept), return_exceptions=True
    )
    assert len((await place.door.means_of(record)).passkeys) == 1


async def record_of(place: Place, name: str) -> OperatorRecord:
    async with place.desk.database.read() as db:
        found = await find_by_name(db, name)
    assert found is not None
    return found


async def test_of_passkeys_that_are_added_at_once_no_more_stay_than_may(place: Place, ada: Operator) -> None:
    record = await record_of(place, "Ada")
    sign_in = SignIn(b"x", ada.id, Method.PASSKEY, place.clock.now, place.clock.now, "")
    async with place.desk.database.begin() as db:
        await lock_operator(db, ada.id)
        for _ in range(MAX_PASSKEYS - 1):
            await add_passkey(db, ada.id, place.passkey(), now=0)
        one_more = asyncio.create_task(place.door.add_own_passkey(record, sign_in, place.passkey()))
        await until_it_waits(one_more, place.desk.database)
    with pytest.raises(Conflict):
        await one_more
    assert len((await place.door.means_of(record)).passkeys) == MAX_PASSKEYS


async def test_of_tokens_that_are_made_at_once_no_more_are_good_than_may(place: Place, ada: Operator) -> None:
    token = NewToken(name="t", permissions=("health.see",))
    for _ in range(MAX_TOKENS - 2):
        await place.act("tokens.make", ada, token)
    outcomes = await asyncio.gather(*(place.act("tokens.make", ada, token) for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "Done", "Done"]
    assert len((await look(place.desk, VIEWS["tokens.list"], ada, PageBefore())).tokens) == MAX_TOKENS


async def test_recovery_codes_that_are_made_twice_at_once_are_ten(place: Place, ada: Operator) -> None:
    record = await record_of(place, "Ada")
    sign_in = SignIn(b"x", ada.id, Method.PASSKEY, place.clock.now, place.clock.now, "")
    made = await asyncio.gather(*(place.door.make_recovery_codes(record, sign_in) for _ in range(4)))
    assert (await place.door.means_of(record)).codes_left == RECOVERY_CODES
    async with place.desk.database.read() as db:
        good = [[await whose_code(db, SECRET, code) for code in codes] for codes in made]
    assert sorted(good, key=str) == sorted([[ada.id] * RECOVERY_CODES, *[[None] * RECOVERY_CODES] * 3], key=str)


@pytest.mark.parametrize("method", [Method.PASSKEY, Method.RECOVERY])
async def test_what_is_refused_to_who_did_not_just_sign_in_stands_in_the_log(
    place: Place, ada: Operator, method: Method
) -> None:
    record = await record_of(place, "Ada")
    stale = SignIn(b"x", ada.id, method, place.clock.now, place.clock.now, "")
    place.clock.advance(minutes=15)
    door = place.door
    refused: dict[str, Callable[[], Awaitable[object]]] = {
        "passkeys.add": lambda: door.add_own_passkey(record, stale, place.passkey()),
        "passkeys.remove": lambda: door.remove_own_passkey(record, stale, b""),
        "recovery_codes.make": lambda: door.make_recovery_codes(record, stale),
        "totp.set": lambda: door.confirm_totp(record, stale, b"", ""),
        "totp.remove": lambda: door.remove_totp(record, stale),
        "oidc.bind": lambda: door.unbind_own_oidc(record, stale),
    }
    before = len(await outcomes(place))
    for change in refused.values():
        with pytest.raises(NotPermitted):
            await change()
    assert (await outcomes(place))[before:] == [(name, "refused") for name in refused]


async def test_who_changes_an_operator_and_this_operator_wait_for_each_other_in_one_order(
    place: Place, ada: Operator
) -> None:
    """As after the founder has handed over: the owner's row comes behind theirs."""
    grace = await place.operator(Role.OWNER, "Grace")
    await place.act("operators.change_role", grace, RoleChange(operator_id=ada.id, role=Role.VIEWER))
    async with place.desk.database.begin() as db:
        await lock_with_owners(db, grace.id)
        token = NewToken(name="t", permissions=("health.see",))
        theirs = asyncio.create_task(place.act("tokens.make", ada, token))
        await until_it_waits(theirs, place.desk.database)
        await set_role(db, await require_operator(db, ada.id), Role.SUPPORT)
    await theirs


async def until_it_waits(task: asyncio.Task[Any], database: Database) -> None:
    """Until it waits for what another transaction holds, or has not waited. On SQLite writers take turns."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while database.turn is None and not task.done():
        async with database.read() as db:
            if (await db.execute(text(waits))).scalar_one():
                return


# --- lists ---


async def test_the_list_goes_on_where_it_ended(place: Place, ada: Operator) -> None:
    await place.operator(Role.VIEWER, "Vera")
    first = await look(place.desk, VIEWS["operators.list"], ada, Page(limit=1))
    second = await look(place.desk, VIEWS["operators.list"], ada, Page(limit=1, after=first.next))
    assert [line.name for page in (first, second) for line in page.operators] == ["Ada", "Vera"]
    assert second.next is None
    assert first.operators[0].passkeys == 1


# --- everything dangerous has a reason ---


@pytest.mark.parametrize(
    "name", [name for name, action in ACTIONS.items() if action.dangerous and name in ALWAYS_TOGETHER]
)
async def test_what_is_dangerous_needs_a_reason(place: Place, ada: Operator, name: str) -> None:
    given = {"operatorId": ada.id, "role": "viewer", "issuer": "i", "actions": [], "version": 0}
    parameters = ACTIONS[name].takes.model_validate(given, strict=False)
    with pytest.raises(ReasonNeeded):
        await act(place.desk, ACTIONS[name], ada, parameters)


async def test_nothing_that_opens_something_stands_in_the_log(place: Place, ada: Operator) -> None:
    shown = [
        (await place.act("operators.invite", ada, Invitation(role=Role.VIEWER))).shown["path"],
        (await place.act("tokens.make", ada, NewToken(name="t", permissions=("health.see",)))).shown["token"],
    ]
    await place.act("operators.bind_oidc", ada, CompanyAccount(operator_id=ada.id, issuer="https://i", subject="s"))
    log = "".join([entry.as_json() async for entry in all_entries(place.desk.database)])
    assert "operators.invite" in log
    for each in shown:
        assert each.removeprefix("/enrol#").removeprefix("srt_") not in log


# --- means ---


@pytest.mark.parametrize(
    ("passkeys", "codes", "at_risk"), [(1, 0, True), (2, 0, False), (1, 1, False), (0, 0, True), (0, 10, False)]
)
def test_who_could_lose_everything_at_once_is_at_risk(*, passkeys: int, codes: int, at_risk: bool) -> None:
    assert is_at_risk(passkeys, codes) is at_risk


async def test_an_operator_has_so_many_passkeys(place: Place, ada: Operator) -> None:
    async with place.desk.database.read() as db:
        record = await find_by_name(db, "Ada")
    assert record is not None
    sign_in = SignIn(b"x", ada.id, Method.PASSKEY, place.clock.now, place.clock.now, "")
    for _ in range(MAX_PASSKEYS - 1):
        await place.door.add_own_passkey(record, sign_in, place.passkey())
    with pytest.raises(Conflict):
        await place.door.add_own_passkey(record, sign_in, place.passkey())


async def test_a_company_account_is_one_operators(place: Place, ada: Operator) -> None:
    vera = await place.operator(Role.VIEWER, "Vera")
    account = {"issuer": "https://company.example", "subject": "s-1"}
    await place.act("operators.bind_oidc", ada, CompanyAccount(operator_id=vera.id, **account))
    with pytest.raises(Conflict):
        await place.act("operators.bind_oidc", ada, CompanyAccount(operator_id=ada.id, **account))
    subject = place.door.subject_of(account["issuer"], account["subject"])
    assert (await place.door.enter_by_oidc(subject, "")).record.name == "Vera"
    with pytest.raises(NotSignedIn):
        await place.door.enter_by_oidc(place.door.subject_of("https://other.example", "s-1"), "")


# --- what is kept ---


def test_a_code_is_read_as_it_was_meant() -> None:
    code = new_code()
    assert as_meant(code.lower().replace("-", " ").replace("0", "o").replace("1", "l")) == code.replace("-", "")


def test_a_value_of_one_kind_is_worth_nothing_as_another() -> None:
    assert len({hash_of(SECRET, kind, "x") for kind in Kind}) == len(Kind)


@pytest.mark.parametrize("whose", [b"", b"another"])
def test_a_seal_is_for_one_operator(whose: bytes) -> None:
    sealed = seal(SECRET, Kind.TOTP, b"secret", whose=b"one")
    assert unseal(SECRET, Kind.TOTP, sealed, whose=b"one") == b"secret"
    with pytest.raises(SealBroken):
        unseal(SECRET, Kind.TOTP, sealed, whose=whose)


def test_a_seal_that_was_changed_is_refused() -> None:
    sealed = seal(SECRET, Kind.TOTP, b"secret", whose=b"one")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealBroken):
            unseal(SECRET, Kind.TOTP, bytes(changed), whose=b"one")


# RFC 6238, appendix B, with SHA-1: the last six of eight digits.
@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_time_based_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    now = seconds * 1000
    secret = b"12345678901234567890"
    assert matching_step(secret, code, now=now, after=0) == now // STEP
    assert matching_step(secret, code, now=now + STEP, after=0) == now // STEP
    assert matching_step(secret, code, now=now + 2 * STEP, after=0) is None
    assert matching_step(secret, code, now=now, after=now // STEP) is None


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("nowhere", ""),
    ],
)
def test_a_subscriber_of_many_addresses_counts_as_one(address: str, counted: str) -> None:
    assert network_of(address) == counted


# --- at the same time ---


async def test_many_wrong_tries_at_once_get_no_further_than_one_after_the_other(place: Place) -> None:
    async def wrong() -> str:
        try:
            await place.door.recover("AAAA-AAAA-AAAA-AAAA", "", HOME, "")
        except NotSignedIn:
            return "looked at"
        except TooManyTries:
            return "not looked at"
        return "let in"

    outcomes = await asyncio.gather(*(wrong() for _ in range(3 * SIGN_IN_TRIES)))
    assert outcomes.count("looked at") == SIGN_IN_TRIES
    assert outcomes.count("not looked at") == 2 * SIGN_IN_TRIES


async def test_second_factors_that_are_tried_at_once_get_no_further_than_one_after_the_other(
    place: Place, ada: Operator
) -> None:
    record = await record_of(place, "Ada")
    sign_in = SignIn(b"x", ada.id, Method.PASSKEY, place.clock.now, place.clock.now, "")
    code, *_ = await place.door.make_recovery_codes(record, sign_in)
    async with place.desk.database.begin() as db:
        await set_totp(db, SECRET, record, b"s" * 20)

    async def wrong(number: int) -> type[BaseException]:
        with pytest.raises(AdminError) as refused:
            await place.door.recover(code, "no code", f"192.0.2.{number}", "")
        return refused.type

    for number in range(SECOND_FACTOR_TRIES - 1):
        assert await wrong(number) is NotRight
    place.clock.advance(minutes=2)
    who = hash_of(SECRET, Kind.TRIES, f"second factor {ada.id}")
    async with place.desk.database.begin() as db:  # the last one of the day, by somebody else at the same moment
        await lock_operator(db, ada.id)
        await count_try(db, who, now=place.clock.now, limit=SECOND_FACTOR_TRIES)
        one_more = asyncio.create_task(wrong(100))
        await until_it_waits(one_more, place.desk.database)
    assert await one_more is TooManyTries


async def test_two_owners_who_disable_each_other_at_once_leave_one(place: Place, ada: Operator) -> None:
    grace = await place.operator(Role.OWNER, "Grace")
    outcomes = await asyncio.gather(
        place.act("operators.disable", ada, OfOperator(operator_id=grace.id)),
        place.act("operators.disable", grace, OfOperator(operator_id=ada.id)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", "NotPermitted"]


async def test_a_code_that_two_use_at_once_lets_one_in(place: Place, ada: Operator) -> None:
    link = await place.door.invite_by_terminal(Role.VIEWER, None)
    outcomes = await asyncio.gather(
        *(place.door.enrol(link, name, place.passkey(), "") for name in ("Vera", "Eve")), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EnrolmentGone", "Entered"]


async def test_what_is_over_is_swept(place: Place, ada: Operator) -> None:
    await place.door.begin("sign in", None, HOME)
    await place.door.invite_by_terminal(Role.VIEWER, None)
    place.clock.advance(minutes=2 * 24 * 60)
    await place.door.sweep()
    async with place.desk.database.read() as db:
        for row in (ChallengeRow, EnrolmentRow, SignInRow, TryRow):
            assert (await db.execute(select(func.count()).select_from(row))).scalar_one() == 0
