"""Invites as a domain of the console. A code is shown once, to who makes it; the server keeps a keyed hash."""

from typing import Any, Final

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.invite_service import make_invite
from messaging.relay.accounts.invite_tables import invites_before, revoke_invite
from messaging.relay.accounts.invites import MAX_USES, InvalidTerms, Invite, Role, Terms, parse_lifetime
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Operator, View
from messaging.relay.admin.errors import InvalidInput, NothingThere
from messaging.relay.admin.limits import PAGE
from messaging.relay.admin.parameters import PageSize, RowNumber, page_of
from messaging.relay.admin.permissions import Permission
from messaging.wire.json import Entity


class InvitePage(Entity):
    """Which page: the invites before that one, newest first."""

    before: RowNumber | None = None
    limit: PageSize = PAGE


class InviteLine(Entity):
    """An invite, without its code. ``state`` is ``good``, ``used up``, ``expired`` or ``revoked``."""

    id: int
    role: str
    state: str
    uses_left: int
    created_at: int
    expires_at: int
    for_one_number: bool


class Invites(Entity):
    """A page of invites. ``before`` asks for the next one."""

    invites: list[InviteLine]
    before: int | None = None


class InviteWanted(Entity):
    """The terms of an invite."""

    role: Role = Role.MEMBER
    uses: int = Field(1, ge=1, le=MAX_USES, description="How many may register with it")
    lifetime: str = Field("7d", max_length=8, description="30m, 12h or 7d")
    number: str | None = Field(
        None, repr=False, max_length=32, description="Good for this number alone, which may have an account already"
    )


class InviteNamed(Entity):
    """One invite."""

    id: RowNumber


async def _list(desk: Desk, db: AsyncConnection, page: InvitePage) -> Invites:
    found = await invites_before(db, page.before, limit=page.limit + 1)
    shown, last = page_of(found, page.limit)
    lines = [_line(each, desk.now()) for each in shown]
    return Invites(invites=lines, before=None if last is None else last.id)


def _line(invite: Invite, now: int) -> InviteLine:
    return InviteLine(
        id=invite.id,
        role=invite.role,
        state=invite.state(now),
        uses_left=invite.uses_left,
        created_at=invite.created_at,
        expires_at=invite.expires_at,
        for_one_number=invite.number_hash is not None,
    )


async def _make(desk: Desk, db: AsyncConnection, wanted: InviteWanted, _by: Operator) -> Done:
    try:
        terms = Terms(wanted.role, wanted.uses, parse_lifetime(wanted.lifetime), wanted.number)
    except InvalidTerms as problem:
        raise InvalidInput(sentence=f"{problem}.") from None
    made = await make_invite(db, desk.secret, terms, now=desk.now())
    return Done(
        (Effect("invites", 1),),
        _subject(made.invite.id),
        {"forOneNumber": wanted.number is not None},
        shown={"code": made.code},
    )


async def _revoke(_desk: Desk, db: AsyncConnection, named: InviteNamed, _by: Operator) -> Done:
    if not await revoke_invite(db, named.id):
        raise NothingThere
    return Done((Effect("invites", 1),), _subject(named.id))


def _subject(number: int) -> str:
    return f"invite {number}"


P = Permission
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("invites.list", "Invites, the newest first", P.INVITES_SEE, InvitePage, Invites, _list),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "invites.make",
        "Make an invite; its code is shown this once",
        P.INVITES_MANAGE,
        InviteWanted,
        _make,
        parameters_for_log=frozenset({"role", "uses", "lifetime"}),
    ),
    Action(
        "invites.revoke",
        "Make an invite worthless; who has registered with it stays",
        P.INVITES_MANAGE,
        InviteNamed,
        _revoke,
    ),
)
