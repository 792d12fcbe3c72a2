"""The only way for an operator to data: permission, deed and audit entry, the two last in one transaction.

A view reads and an action changes. What a view shows of an account is written down before it is shown. An action is tried by doing it
and rolling back, so that what it says it will touch is what it touches. Web pages, the API and the terminal all come through here.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.api_tokens import find_token_by_id
from messaging.relay.admin.audit import Outcome, Said
from messaging.relay.admin.audit_tables import append
from messaging.relay.admin.errors import (
    Conflict,
    InvalidInput,
    NothingThere,
    NotPermitted,
    ReasonNeeded,
    SecondOperatorNeeded,
)
from messaging.relay.admin.evidence import Appraisals, Appraiser
from messaging.relay.admin.limits import MAX_GIVEN, MAX_REASON
from messaging.relay.admin.operators import find_operator, lock_with_owners, permitted
from messaging.relay.admin.permissions import Permission, require
from messaging.relay.admin.proposals import Proposal, add_proposal, decide, needs_second
from messaging.relay.attachments.storage import Storage
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import Wakeups
from messaging.relay.server_secret import ServerSecret
from messaging.wire.json import Entity

P = TypeVar("P", bound=Entity)
R = TypeVar("R", bound=Entity)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks: an operator as they are signed in, or through a token that has only a part of their permissions.

    ``via`` is ``console``, ``api`` or ``terminal``. ``id`` is that of the operator's row. ``fresh``: they have signed in a short while
    ago (``limits.FRESH``), which nobody has with a token.
    """

    id: int
    name: str
    permissions: frozenset[Permission]
    via: str
    token_id: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """What views and actions use. ``now`` gives milliseconds since 1970."""

    database: Database
    url: URL = field(repr=False)
    wakeups: Wakeups
    secret: ServerSecret
    storage: Storage | None
    now: Callable[[], int]
    redis_url: str | None = field(default=None, repr=False)
    appraise: Appraiser | None = None  # who reads evidence, which this package cannot
    appraisals: Appraisals = field(default_factory=Appraisals, repr=False)


class Nothing(Entity):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class View(Generic[P, R]):
    """Something to look at. ``name`` is its place in the API: ``accounts.search`` is ``/api/v1/views/accounts.search``.

    ``of_account``: it shows data of accounts, so that looking is written down before anything is read, with the ``subject`` that its
    parameters give. ``subject_found``: with a subject that is known only from what was read; ``None`` if that tells of no account.
    ``shown_to``: what of the result this operator may see, if not all.
    """

    name: str
    summary: str
    permission: Permission
    takes: type[P]
    gives: type[R]
    read: Callable[[Desk, AsyncConnection, P], Awaitable[R]]
    of_account: bool = False
    subject: Callable[[P], str] = lambda _: ""
    subject_found: Callable[[P, R], str | None] | None = None
    shown_to: Callable[[R, Operator], R] = lambda result, _: result


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that an action touches: ``what``, in the plural, and how many of it."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class Done:
    """What an action has done. ``detail`` goes into the log; ``shown`` is for the operator alone, and only this once.

    ``after`` is run when the transaction has been committed: notices to relays.
    """

    effects: tuple[Effect, ...] = ()
    subject: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict, repr=False)
    after: Callable[[], None] | None = None


class Presence(Enum):
    """How an operator has to be there to do something."""

    ANY = auto()
    SIGNED_IN = auto()  # not through a token
    FRESH = auto()  # signed in a short while ago


@dataclass(frozen=True, slots=True)
class Action(Generic[P]):
    """Something to do. ``dangerous``: it needs a reason, and the console asks again, with what it will touch.

    ``perform`` works in the transaction that it is given, and nowhere else: it may be rolled back. It gets the operator, too.
    ``parameters_for_log`` are the fields of ``takes`` that may stand in the audit log and in a proposal; one with others cannot be
    proposed.
    """

    name: str
    summary: str
    permission: Permission
    takes: type[P]
    perform: Callable[[Desk, AsyncConnection, P, Operator], Awaitable[Done]]
    dangerous: bool = False
    parameters_for_log: frozenset[str] | None = None  # None: all
    presence: Presence = Presence.ANY


async def look(desk: Desk, view: View[P, R], operator: Operator, parameters: P, *, goes_on: bool = False) -> R:
    """What a view shows. ``goes_on``: it is a further part of what was written down when its first one was looked at.

    Raises:
        NotPermitted: not to this operator; that is in the audit log.
        AdminError: see the view.
    """
    await require_permitted(desk, operator, view)
    if view.of_account and view.subject_found is None and not goes_on:
        await _note(desk, operator, view.name, Outcome.READ, view.subject(parameters))
    async with desk.database.read() as db:
        shown = view.shown_to(await view.read(desk, db, parameters), operator)
    if view.subject_found is not None:
        subject = view.subject_found(parameters, shown)
        if subject is not None:  # written down before it is shown: no entry, no data
            await _note(desk, operator, view.name, Outcome.READ, subject)
    return shown


async def act(
    desk: Desk,
    action: Action[P],
    operator: Operator,
    parameters: P,
    *,
    reason: str = "",
    dry_run: bool = False,
) -> Done:
    """Do something, or with ``dry_run`` find out what it would touch.

    Raises:
        NotPermitted: not by this operator; that is in the audit log.
        ReasonNeeded: a dangerous action without one, or one of more than ``MAX_REASON`` characters.
        SecondOperatorNeeded: it was proposed, and waits for another operator.
        AdminError: see the action; then nothing has changed. ``NothingThere`` and ``Conflict`` are in the audit log, too.
    """
    await require_permitted(desk, operator, action)
    reason = _checked_reason(reason, needed=action.dangerous and not dry_run)
    if len(json.dumps(_given(action, parameters)).encode()) > MAX_GIVEN:
        raise InvalidInput((), "That is too much at once.")
    async with _noting_failures(desk, operator, action, parameters, reason):
        _require_presence(operator, action.presence)
        if dry_run:
            return await _try(desk, action, operator, parameters)
        try:
            return await _do(desk, action, operator, parameters, reason)
        except _Waits:
            raise SecondOperatorNeeded(await _propose(desk, action, operator, parameters, reason)) from None


async def approve(desk: Desk, action: Action[P], operator: Operator, proposal: Proposal) -> Done:
    """Do what another operator has proposed. ``action`` is the proposal's.

    Raises:
        NotPermitted: not by this operator, who may not do it either, or it is their own proposal.
        NothingThere, Conflict: it is too old, was decided on already, or who proposed it may not do it any more.
        AdminError: see the action; then the proposal still waits.
    """
    await require_permitted(desk, operator, action)
    parameters = action.takes.from_json(json.dumps(proposal.parameters).encode())
    async with _noting_failures(desk, operator, action, parameters, proposal.reason):
        _require_presence(operator, action.presence)
        return await _do(desk, action, operator, parameters, proposal.reason, proposal)


async def reject(desk: Desk, action: Action[P], operator: Operator, proposal: Proposal, *, reason: str = "") -> None:
    """Let nobody do it any more. Who may do it may reject it, be it their own.

    Raises:
        NotPermitted, NothingThere, Conflict: see :func:`approve`.
        ReasonNeeded: one of more than ``MAX_REASON`` characters.
    """
    await require_permitted(desk, operator, action)
    reason = _checked_reason(reason, needed=False)
    async with _noting_refusals(desk, operator, action), desk.database.begin() as db:
        await _as_of_now(desk, db, operator, action)
        await decide(db, proposal.id, by=operator.id, name=operator.name, now=desk.now(), withdraws=True)
        detail = {"proposal": proposal.id}
        await _write(desk, db, operator, action.name, Outcome.REJECTED, proposal.subject, reason, detail)


async def _do(
    desk: Desk, action: Action[P], operator: Operator, parameters: P, reason: str, proposal: Proposal | None = None
) -> Done:
    async with desk.database.begin() as db:
        operator = await _as_of_now(desk, db, operator, action)
        if proposal is not None:
            await decide(db, proposal.id, by=operator.id, name=operator.name, now=desk.now())
            await _require_proposer(db, proposal, action)
        elif await needs_second(db, action.name):  # under the lock: not before a rule that comes meanwhile
            raise _Waits
        done = await action.perform(desk, db, parameters, operator)
        outcome = Outcome.DONE if proposal is None else Outcome.APPROVED
        detail = _detail(action, parameters, done) | ({} if proposal is None else {"proposal": proposal.id})
        await _write(desk, db, operator, action.name, outcome, done.subject, reason, detail)
    if done.after is not None:
        done.after()
    return done


async def require_permitted(desk: Desk, operator: Operator, what: "View[Any, Any] | Action[Any]") -> None:
    """See that an operator may look at this, or do it.

    Raises:
        NotPermitted: they may not; that is in the audit log.
    """
    async with _noting_refusals(desk, operator, what):
        require(operator.permissions, what.permission)


def _require_presence(operator: Operator, presence: Presence) -> None:
    if presence is not Presence.ANY and operator.token_id is not None:
        raise NotPermitted("A token does not do this: sign in for that.")
    if presence is Presence.FRESH and not operator.fresh:
        raise NotPermitted("Sign in again first: this is done only shortly after that.")


async def _as_of_now(desk: Desk, db: AsyncConnection, operator: Operator, action: Action[Any]) -> Operator:
    """Who asks, with what they may still do: they may have been disabled, or the token revoked, since they were let in.

    Raises:
        NotPermitted: this is not among it.
    """
    held = operator.permissions & await _held(db, operator, desk.now())
    require(held, action.permission)
    return replace(operator, permissions=held)


async def _held(db: AsyncConnection, operator: Operator, now: int) -> frozenset[Permission]:
    record = await lock_with_owners(db, operator.id)
    if record is None or operator.token_id is None:
        return frozenset() if record is None else record.permissions
    token = await find_token_by_id(db, operator.token_id)
    if token is None or token.operator_id != record.id or not token.is_good(now):
        return frozenset()
    return permitted(record, token.permissions)


async def _require_proposer(db: AsyncConnection, proposal: Proposal, action: Action[Any]) -> None:
    """What somebody may not do any more is not done for them."""
    proposer = await find_operator(db, proposal.operator_id)
    if proposer is None or action.permission not in proposer.permissions:
        raise Conflict("Who proposed this may not do it any more. Reject it.")


@asynccontextmanager
async def _noting_refusals(desk: Desk, operator: Operator, what: "View[Any, Any] | Action[Any]") -> AsyncIterator[None]:
    try:
        yield
    except NotPermitted:
        await _note(desk, operator, what.name, Outcome.REFUSED)
        raise


@asynccontextmanager
async def _noting_failures(
    desk: Desk, operator: Operator, action: Action[P], parameters: P, reason: str
) -> AsyncIterator[None]:
    """Refusals, and what could not be done: that there is nothing, or that it is done already, tells something of an account, too."""
    async with _noting_refusals(desk, operator, action):
        try:
            yield
        except (NothingThere, Conflict) as error:
            detail = {"given": _given(action, parameters), "why": error.code}
            await _note(desk, operator, action.name, Outcome.FAILED, _named(parameters), reason, detail)
            raise


class _Waits(Exception):
    """It needs a second operator."""


class _RolledBack(Exception):
    def __init__(self, done: Done) -> None:
        self.done = done


async def _try(desk: Desk, action: Action[P], operator: Operator, parameters: P) -> Done:
    try:
        async with desk.database.begin() as db:
            operator = await _as_of_now(desk, db, operator, action)
            raise _RolledBack(await action.perform(desk, db, parameters, operator))  # noqa: TRY301 - this is what rolls back
    except _RolledBack as tried:
        done = tried.done
    await _note(desk, operator, action.name, Outcome.TRIED, done.subject)
    return Done(done.effects, done.subject, done.detail)  # nothing to show, no notices: it has not happened


async def _propose(desk: Desk, action: Action[P], operator: Operator, parameters: P, reason: str) -> int:
    """Only what could be done is proposed, and nothing that is to stand nowhere."""
    document = json.loads(parameters.to_json())
    private = _private(action, document)
    if private:
        raise InvalidInput(private, "What stands in no log cannot wait for another operator.")
    tried = await _try(desk, action, operator, parameters)
    async with desk.database.begin() as db:
        await _as_of_now(desk, db, operator, action)
        proposal = await add_proposal(
            db, action.name, document, reason, tried.subject, by=operator.id, name=operator.name, now=desk.now()
        )
        detail = {"proposal": proposal}
        await _write(desk, db, operator, action.name, Outcome.PROPOSED, tried.subject, reason, detail)
    return proposal


async def _note(
    desk: Desk,
    operator: Operator,
    action: str,
    outcome: Outcome,
    subject: str = "",
    reason: str = "",
    detail: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    async with desk.database.begin() as db:
        await _write(desk, db, operator, action, outcome, subject, reason, detail)


async def _write(
    desk: Desk,
    db: AsyncConnection,
    operator: Operator,
    action: str,
    outcome: Outcome,
    subject: str,
    reason: str,
    detail: Mapping[str, Any],
) -> None:
    said = Said(
        at=desk.now(),
        operator=operator.name,
        via=operator.via,
        action=action,
        outcome=outcome,
        subject=subject,
        reason=reason,
        detail=detail,
    )
    await append(db, said, desk.secret.audit_key)


def _checked_reason(text: str, *, needed: bool) -> str:
    reason = text.strip()
    if len(reason) > MAX_REASON or (needed and not reason):
        raise ReasonNeeded
    return reason


def _private(action: Action[P], document: Mapping[str, Any]) -> tuple[str, ...]:
    if action.parameters_for_log is None:
        return ()
    return tuple(
        name for name, value in document.items() if value not in ("", []) and name not in action.parameters_for_log
    )


def _detail(action: Action[P], parameters: P, done: Done) -> dict[str, Any]:
    effects = {effect.what: effect.count for effect in done.effects}
    return {"given": _given(action, parameters), **({"touched": effects} if effects else {}), **done.detail}


def _given(action: Action[P], parameters: P) -> dict[str, Any]:
    """The parameters that go into the log."""
    given: dict[str, Any] = json.loads(parameters.to_json())
    if action.parameters_for_log is None:
        return given
    return {name: value for name, value in given.items() if name in action.parameters_for_log}


def _named(parameters: Entity) -> str:
    """The account that parameters name by its ``aci``, as it stands in the audit log; nothing if they name none."""
    aci = getattr(parameters, "aci", None)
    return account_subject(aci) if isinstance(aci, UUID) else ""


def account_subject(aci: UUID) -> str:
    """How an account is named in the audit log."""
    return f"account {aci}"
