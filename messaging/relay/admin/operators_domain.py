"""Operators as a domain of the console: who there is, what each may, and what waits for a second of them."""

from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.api_tokens import (
    add_token,
    check_lifetime,
    check_scope,
    find_token_by_id,
    good_tokens_before,
    revoke_token,
    revoke_tokens,
)
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Nothing, Operator, Presence, View
from messaging.relay.admin.door import oidc_subject
from messaging.relay.admin.enrolments import (
    forget_all_enrolments,
    forget_enrolments,
    forget_enrolments_of,
    make_enrolment,
)
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import ENROLMENT_LIFETIME, MAX_NAMED, PAGE
from messaging.relay.admin.operators import (
    OperatorRecord,
    bind_oidc,
    check_name,
    disable,
    enabled_owners,
    find_operator,
    operators_after,
    require_operator,
    set_role,
)
from messaging.relay.admin.parameters import MAX_ROW, PageSize, RowNumber, page_of
from messaging.relay.admin.passkeys import count_passkeys
from messaging.relay.admin.permissions import Permission, Role
from messaging.relay.admin.proposals import SETTING, reject_proposals_of, waiting_proposals
from messaging.relay.admin.recovery import codes_left
from messaging.relay.admin.sign_ins import end_sign_in, end_sign_ins, sign_ins_of
from messaging.relay.operator_settings import VersionTaken, read_setting, write_setting
from messaging.wire.json import Entity

# Where anything waits for a second operator, these do, too: else one could do away with the rule, or make the second one up.
ALWAYS_TOGETHER: Final = frozenset(
    {
        "approvals.require",
        "operators.bind_oidc",
        "operators.change_role",
        "operators.disable",
        "operators.invite",
    }
)
_NEVER_TOGETHER: Final = (
    "tokens."  # what another operator would approve, they would be shown: a token that is not theirs
)
ENROL_PATH: Final = "/enrol#"  # behind the #, nothing is sent to a server, nor written into its log

Name = Annotated[str, Field(max_length=256)]
Names = Annotated[  # each once, sorted: so they stand in the audit log
    tuple[str, ...], Field(max_length=MAX_NAMED), AfterValidator(lambda names: tuple(sorted(set(names))))
]


class Page(Entity):
    """A part of a list: what stands behind ``after``."""

    after: Annotated[int, Field(ge=0, le=MAX_ROW)] = 0
    limit: PageSize = PAGE


class PageBefore(Entity):
    """A part of a list that begins with the newest: what is older than ``before``."""

    before: RowNumber | None = None
    limit: PageSize = PAGE


class OfOperator(Entity):
    """An operator, by their number."""

    operator_id: RowNumber


# --- what there is ---


class OperatorLine(Entity):
    """One operator in the list. Times are milliseconds since 1970."""

    id: int
    name: str
    role: Role
    created_at: int
    disabled_at: int | None
    passkeys: int
    recovery_codes: int
    has_totp: bool
    has_company_account: bool
    seen_at: int | None


class OperatorList(Entity):
    """Some operators; ``next`` is where the list goes on, if it does."""

    operators: tuple[OperatorLine, ...]
    next: int | None


async def _list(desk: Desk, db: AsyncConnection, page: Page) -> OperatorList:
    found, last = page_of(await operators_after(db, page.after, limit=page.limit + 1), page.limit)
    lines = tuple([await _line(desk, db, record) for record in found])
    return OperatorList(operators=lines, next=None if last is None else last.id)


async def _line(desk: Desk, db: AsyncConnection, record: OperatorRecord) -> OperatorLine:
    seen = [sign_in.seen_at for sign_in in await sign_ins_of(db, record.id, now=desk.now())]
    return OperatorLine(
        id=record.id,
        name=record.name,
        role=record.role,
        created_at=record.created_at,
        disabled_at=record.disabled_at,
        passkeys=await count_passkeys(db, record.id),
        recovery_codes=await codes_left(db, record.id),
        has_totp=record.totp_sealed is not None,
        has_company_account=record.oidc_subject is not None,
        seen_at=max(seen, default=None),
    )


class SignInLine(Entity):
    """Somebody who is signed in. ``id`` names the sign-in and opens nothing."""

    id: str
    method: str
    began_at: int
    seen_at: int
    browser: str


class SignInList(Entity):
    """An operator's sign-ins, the latest first."""

    sign_ins: tuple[SignInLine, ...]


async def _sign_ins(desk: Desk, db: AsyncConnection, of: OfOperator) -> SignInList:
    found = await sign_ins_of(db, of.operator_id, now=desk.now())
    return SignInList(
        sign_ins=tuple(
            SignInLine(
                id=each.id, method=each.method, began_at=each.began_at, seen_at=each.seen_at, browser=each.browser
            )
            for each in found
        )
    )


class TokenLine(Entity):
    """A token that is good, and not the token itself."""

    id: int
    operator_id: int
    name: str
    permissions: tuple[str, ...]
    created_at: int
    expires_at: int
    used_at: int | None


class TokenList(Entity):
    """Some tokens, the newest first; ``next`` is the ``before`` with which the list goes on, if it does."""

    tokens: tuple[TokenLine, ...]
    next: int | None


async def _tokens(desk: Desk, db: AsyncConnection, page: PageBefore) -> TokenList:
    good = await good_tokens_before(db, page.before, limit=page.limit + 1, now=desk.now())
    found, last = page_of(good, page.limit)
    lines = tuple(
        TokenLine(
            id=token.id,
            operator_id=token.operator_id,
            name=token.name,
            permissions=tuple(sorted(token.permissions)),
            created_at=token.created_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
        )
        for token in found
    )
    return TokenList(tokens=lines, next=None if last is None else last.id)


class ProposalLine(Entity):
    """What waits for a second operator."""

    id: int
    action: str
    subject: str
    reason: str
    parameters: dict[str, Any]
    operator_id: int
    operator: str
    at: int


class ProposalList(Entity):
    """All that waits, of what the operator who asks may do themselves; oldest first."""

    proposals: tuple[ProposalLine, ...]


async def _proposals(desk: Desk, db: AsyncConnection, _: Nothing) -> ProposalList:
    return ProposalList(
        proposals=tuple(
            ProposalLine(
                id=each.id,
                action=each.action,
                subject=each.subject,
                reason=each.reason,
                parameters=dict(each.parameters),
                operator_id=each.operator_id,
                operator=each.operator,
                at=each.at,
            )
            for each in await waiting_proposals(db, now=desk.now())
        )
    )


def _shown_to(proposals: ProposalList, operator: Operator) -> ProposalList:
    """Who may not do something is not told that somebody wants to, nor to whom."""
    actions = _actions()
    may = [
        each
        for each in proposals.proposals
        if each.action in actions and actions[each.action].permission in operator.permissions
    ]
    return ProposalList(proposals=tuple(may))


class Approvals(Entity):
    """Which actions wait for a second operator, and which could. ``version`` is to be said when it is changed."""

    actions: tuple[str, ...]
    could: tuple[str, ...]
    version: int


async def _approvals(_: Desk, db: AsyncConnection, __: Nothing) -> Approvals:
    setting = await read_setting(db, SETTING)
    actions = () if setting is None else tuple(setting.document.get("actions", ()))
    return Approvals(
        actions=actions, could=tuple(sorted(_could_wait())), version=0 if setting is None else setting.version
    )


# --- what can be done ---


class Invitation(Entity):
    """Either a ``role`` for somebody new, or an ``operatorId`` who gets another passkey."""

    role: Role | None = None
    operator_id: RowNumber | None = None


async def _invite(desk: Desk, db: AsyncConnection, given: Invitation, by: Operator) -> Done:
    if (given.role is None) == (given.operator_id is None):
        raise InvalidInput(("role", "operatorId"), "Name a role for somebody new, or an operator who is there.")
    if given.operator_id is not None:
        await require_operator(db, given.operator_id)
    code = await make_enrolment(
        db, desk.secret, role=given.role, operator_id=given.operator_id, made_by=by.name, now=desk.now()
    )
    hours = ENROLMENT_LIFETIME // timedelta(hours=1)
    return Done(
        (Effect("enrolment links", 1),),
        subject=_name_of(given.operator_id),
        shown={"path": f"{ENROL_PATH}{code}", "goodFor": f"once, within {hours} hours"},
    )


class RoleChange(OfOperator):
    """The role that an operator gets."""

    role: Role


async def _change_role(_: Desk, db: AsyncConnection, given: RoleChange, __: Operator) -> Done:
    record = await require_operator(db, given.operator_id)
    await set_role(db, record, given.role)
    ended = await end_sign_ins(db, record.id)
    await forget_enrolments(db, made_by=record.name)
    return Done(
        (Effect("operators", 1), Effect("sign-ins", ended)),
        subject=_name_of(record.id),
        detail={"name": record.name, "from": record.role.value, "to": given.role.value},
    )


async def _disable(desk: Desk, db: AsyncConnection, given: OfOperator, by: Operator) -> Done:
    record = await require_operator(db, given.operator_id)
    await disable(db, record, now=desk.now())
    ended, revoked = await end_sign_ins(db, record.id), await revoke_tokens(db, record.id)
    await forget_enrolments(db, made_by=record.name)
    await forget_enrolments_of(db, record.id)
    rejected = await reject_proposals_of(db, record.id, name=by.name, now=desk.now())
    return Done(
        (
            Effect("operators", 1),
            Effect("sign-ins", ended),
            Effect("tokens", revoked),
            Effect("proposals", rejected),
        ),
        subject=_name_of(record.id),
        detail={"name": record.name},
    )


class SignInOf(OfOperator):
    """One of an operator's sign-ins, by its name in the list; all of them without."""

    sign_in: Annotated[str, Field(max_length=64)] | None = None


async def _end_sign_in(_: Desk, db: AsyncConnection, given: SignInOf, __: Operator) -> Done:
    if await find_operator(db, given.operator_id) is None:
        raise NothingThere
    if given.sign_in is None:
        ended = await end_sign_ins(db, given.operator_id)
    elif await end_sign_in(db, given.operator_id, given.sign_in):
        ended = 1
    else:
        raise NothingThere
    return Done((Effect("sign-ins", ended),), subject=_name_of(given.operator_id))


class CompanyAccount(OfOperator):
    """Who an operator is at the company's provider; nobody without a subject."""

    issuer: Annotated[str, Field(max_length=512)]
    subject: Annotated[str, Field(max_length=255)] | None = None


async def _bind_oidc(desk: Desk, db: AsyncConnection, given: CompanyAccount, _: Operator) -> Done:
    record = await require_operator(db, given.operator_id)
    subject = oidc_subject(desk.secret, given.issuer, given.subject) if given.subject else None
    await bind_oidc(db, record.id, subject)
    return Done((Effect("operators", 1),), subject=_name_of(record.id), detail={"bound": subject is not None})


class NewToken(Entity):
    """A token for oneself: a name, the permissions that it has, and for how many days."""

    name: Name
    permissions: Names
    days: int = 30


async def _make_token(desk: Desk, db: AsyncConnection, given: NewToken, by: Operator) -> Done:
    scope, name = check_scope(given.permissions, by.permissions), check_name(given.name)
    lifetime = check_lifetime(given.days)
    number, token = await add_token(db, desk.secret, by.id, name, scope, lifetime, now=desk.now())
    return Done((Effect("tokens", 1),), subject=f"token {number}", shown={"token": token})


class OfToken(Entity):
    """A token, by its number."""

    token_id: RowNumber


async def _revoke_token(_: Desk, db: AsyncConnection, given: OfToken, by: Operator) -> Done:
    token = await find_token_by_id(db, given.token_id)
    is_theirs = token is not None and token.operator_id == by.id
    if token is None or token.revoked or not (is_theirs or Permission.OPERATORS_MANAGE in by.permissions):
        raise NothingThere  # the same, whether it is somebody else's or nobody's
    await revoke_token(db, token.id)
    return Done((Effect("tokens", 1),), subject=f"token {token.id}")


class ApprovalRule(Entity):
    """The actions that shall wait for a second operator, behind the version of the rule that was seen."""

    actions: Names
    version: Annotated[int, Field(ge=0, le=2**31 - 2)]


async def _require_second(desk: Desk, db: AsyncConnection, given: ApprovalRule, by: Operator) -> Done:
    if not set(given.actions) <= _could_wait():
        raise InvalidInput(("actions",), "Name actions that there are, and none about tokens.")
    actions = sorted(set(given.actions) | ALWAYS_TOGETHER) if given.actions else []
    owners = await enabled_owners(db)
    if actions and len(owners) < 2:  # who proposes, and who approves
        raise Conflict("There has to be a second owner first, who could approve.")
    try:
        await write_setting(db, SETTING, {"actions": actions}, after=given.version, at=desk.now(), by=by.name)
    except VersionTaken:
        raise Conflict from None
    # A link that was made alone before would let one operator be two.
    links = await forget_all_enrolments(db) if actions else 0
    return Done((Effect("actions that wait", len(actions)), Effect("links", links)), detail={"actions": actions})


def _name_of(operator_id: int | None) -> str:
    return "" if operator_id is None else f"operator {operator_id}"


def _could_wait() -> frozenset[str]:
    return frozenset(name for name in _actions() if not name.startswith(_NEVER_TOGETHER))


def _actions() -> dict[str, Action[Any]]:
    from messaging.relay.admin.registry import ACTIONS as ALL  # the registry is made of this module, too

    return ALL


_MANAGE: Final = Permission.OPERATORS_MANAGE

VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("operators.list", "Who may sign in here.", Permission.OPERATORS_SEE, Page, OperatorList, _list),
    View(
        "operators.sign_ins",
        "Where an operator is signed in.",
        Permission.OPERATORS_SEE,
        OfOperator,
        SignInList,
        _sign_ins,
    ),
    View("tokens.list", "Everybody's tokens that are good.", Permission.OPERATORS_SEE, PageBefore, TokenList, _tokens),
    View(
        "approvals.show", "What waits for a second operator.", Permission.OPERATORS_SEE, Nothing, Approvals, _approvals
    ),
    View(
        "proposals.list",
        "What waits now, of what you may do.",
        Permission.HEALTH_SEE,
        Nothing,
        ProposalList,
        _proposals,
        shown_to=_shown_to,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "operators.invite",
        "Make a link with which somebody enrols.",
        _MANAGE,
        Invitation,
        _invite,
        dangerous=True,
        presence=Presence.FRESH,
    ),
    Action(
        "operators.change_role",
        "Give an operator another role.",
        _MANAGE,
        RoleChange,
        _change_role,
        dangerous=True,
        presence=Presence.SIGNED_IN,
    ),
    Action("operators.disable", "Let an operator not sign in any more.", _MANAGE, OfOperator, _disable, dangerous=True),
    Action("operators.end_sign_in", "Sign an operator out.", _MANAGE, SignInOf, _end_sign_in),
    Action(
        "operators.bind_oidc",
        "Say who an operator is at the company's provider.",
        _MANAGE,
        CompanyAccount,
        _bind_oidc,
        dangerous=True,
        presence=Presence.FRESH,
    ),
    Action(
        "tokens.make",
        "Make a token of the API for yourself.",
        Permission.TOKENS_MAKE,
        NewToken,
        _make_token,
        presence=Presence.FRESH,
    ),
    Action("tokens.revoke", "Let a token open nothing any more.", Permission.TOKENS_MAKE, OfToken, _revoke_token),
    Action(
        "approvals.require",
        "Say which actions wait for a second operator.",
        _MANAGE,
        ApprovalRule,
        _require_second,
        dangerous=True,
        presence=Presence.SIGNED_IN,
    ),
)
