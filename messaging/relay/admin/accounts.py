"""Accounts as a domain of the console: finding one, what it has, and stopping it, its devices or its end.

An operator sees that an account exists, its devices, days and sizes. What it says, to whom, its number and its name are not here:
the relay does not have them.
"""

from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.account import disconnect, erase_account, remove_devices, set_suspended, shut_out
from messaging.relay.accounts.tables import (
    Account,
    AccountSummary,
    account_summaries,
    devices_of,
    find_account,
    lock_account_by_id,
    mailbox_ids,
)
from messaging.relay.accounts.usernames import find_owner
from messaging.relay.admin.account_facts import NOT_SEARCHABLE, AccountShown, kind_of, show_account
from messaging.relay.admin.account_report import AccountReport, report_account
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Operator, View, account_subject
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import PAGE
from messaging.relay.admin.parameters import PageSize, RowNumber, day_text, page_of
from messaging.relay.admin.permissions import Permission
from messaging.relay.grants import remove_grant, set_grant
from messaging.relay.limits import Limit, bucket_of
from messaging.relay.messages.tables import count_envelopes
from messaging.wire.accounts import is_e164
from messaging.wire.identifiers import PRIMARY_DEVICE, ServiceId
from messaging.wire.json import Base64Url, Entity
from messaging.wire.limits import MAX_DEVICE_ID, USERNAME_HASH


class AccountNamed(Entity):
    """One account."""

    aci: UUID = Field(description="The account's id")


class AccountSearch(Entity):
    """Which account: by one of the first three. Without them, all that match, newest first; ``before`` asks for the next page."""

    aci: UUID | None = Field(None, description="The account's id, whole")
    number: str | None = Field(
        None, repr=False, max_length=32, description="A number with + and country code. It is hashed and not kept."
    )
    username_hash: Base64Url | None = Field(
        None, min_length=USERNAME_HASH, max_length=USERNAME_HASH, repr=False, description="The hash of a username"
    )
    bots: bool = Field(False, description="Only bots")
    suspended: bool = Field(False, description="Only suspended accounts")
    before: RowNumber | None = None
    limit: PageSize = PAGE


class AccountLine(Entity):
    """An account in a list. ``kind`` is ``person``, ``bot`` or ``assistant``; ``created`` a day (UTC)."""

    aci: UUID
    kind: str
    role: str | None
    assistant: str | None
    created: str
    suspended_at: int | None


class AccountsFound(Entity):
    """A page of accounts. ``before`` asks for the next one; ``not_searchable`` says what nobody can search for here."""

    accounts: list[AccountLine]
    before: int | None = None
    not_searchable: tuple[str, ...] = NOT_SEARCHABLE


class DevicesNamed(AccountNamed):
    """A linked device of an account, or all of them."""

    device_id: int | None = Field(
        None, gt=PRIMARY_DEVICE, le=MAX_DEVICE_ID, description="One linked device; without it, all of them"
    )


class LimitNamed(AccountNamed):
    """A limit of one account."""

    limit: Limit


class LimitGranted(LimitNamed):
    """A bucket: ``at_once`` tokens, then one every ``refill_seconds``."""

    at_once: float = Field(description="So many at once")
    refill_seconds: float = Field(description="Then one more every so many seconds")


async def _search(desk: Desk, db: AsyncConnection, wanted: AccountSearch) -> AccountsFound:
    given = [name for name in ("aci", "number", "username_hash") if getattr(wanted, name) is not None]
    if len(given) > 1:
        raise InvalidInput(tuple(given), "Search by one thing at a time.")
    if wanted.number is not None and not is_e164(wanted.number):
        raise InvalidInput(("number",), "A number has a plus sign, a country code and digits.")
    aci = wanted.aci
    if wanted.username_hash is not None:
        aci = await find_owner(db, wanted.username_hash)
        if aci is None:
            return AccountsFound(accounts=[])
    found = await account_summaries(
        db,
        aci=aci,
        number_hash=None if wanted.number is None else desk.secret.number_hash(wanted.number),
        bots=wanted.bots,
        suspended=wanted.suspended,
        before=wanted.before,
        limit=wanted.limit + 1,
    )
    page, last = page_of(found, wanted.limit)
    return AccountsFound(accounts=[_line(each) for each in page], before=None if last is None else last.id)


def _line(account: AccountSummary) -> AccountLine:
    return AccountLine(
        aci=account.aci,
        kind=kind_of(account.role, account.assistant_name),
        role=account.role,
        assistant=account.assistant_name,
        created=day_text(account.created_on),
        suspended_at=account.suspended_at,
    )


def _searched(wanted: AccountSearch) -> str:
    """For the audit log: by what, and never the number."""
    if wanted.aci is not None:
        return account_subject(wanted.aci)
    if wanted.number is not None:
        return "accounts, by number"
    return "accounts, by username" if wanted.username_hash is not None else "accounts"


def _named_found(wanted: AccountSearch, found: AccountsFound) -> str:
    """For the audit log: the account that a number or a username has led to."""
    by_secret = wanted.number is not None or wanted.username_hash is not None
    return account_subject(found.accounts[0].aci) if by_secret and len(found.accounts) == 1 else _searched(wanted)


async def _show(_desk: Desk, db: AsyncConnection, named: AccountNamed) -> AccountShown:
    return await show_account(db, await _require(db, named.aci))


async def _report(desk: Desk, db: AsyncConnection, named: AccountNamed) -> AccountReport:
    return await report_account(db, desk.secret, named.aci, now=desk.now())


async def _suspend(desk: Desk, db: AsyncConnection, named: AccountNamed, _by: Operator) -> Done:
    account = await lock_named(db, named.aci)
    if account.is_suspended:
        raise Conflict("The account is suspended already.")
    mailboxes = await set_suspended(db, account.id, desk.now())
    return Done(
        (Effect("accounts", 1), Effect("devices", len(mailboxes))),
        account_subject(account.aci),
        after=lambda: shut_out(desk.wakeups, mailboxes),
    )


async def _unsuspend(_desk: Desk, db: AsyncConnection, named: AccountNamed, _by: Operator) -> Done:
    account = await lock_named(db, named.aci)
    if not account.is_suspended:
        raise Conflict("The account is not suspended.")
    mailboxes = await set_suspended(db, account.id, None)
    return Done((Effect("accounts", 1), Effect("devices", len(mailboxes))), account_subject(account.aci))


async def _revoke(desk: Desk, db: AsyncConnection, named: DevicesNamed, _by: Operator) -> Done:
    account = await lock_named(db, named.aci)
    linked = [device for device in await devices_of(db, account.id) if device.device_id != PRIMARY_DEVICE]
    going = [device for device in linked if named.device_id in (None, device.device_id)]
    if not going:
        raise NothingThere("The account has no such linked device.")
    waiting = await count_envelopes(db, mailbox_ids(going))
    mailboxes = await remove_devices(db, account.id, {device.device_id for device in going})
    return Done(
        (Effect("devices", len(going)), Effect("envelopes", sum(waiting.values()))),
        account_subject(account.aci),
        after=lambda: disconnect(desk.wakeups, mailboxes),
    )


async def _delete(desk: Desk, db: AsyncConnection, named: AccountNamed, _by: Operator) -> Done:
    account = await lock_named(db, named.aci)
    waiting = await count_envelopes(db, mailbox_ids(await devices_of(db, account.id)))
    mailboxes = await erase_account(db, account, now=desk.now())
    return Done(
        (Effect("accounts", 1), Effect("devices", len(mailboxes)), Effect("envelopes", sum(waiting.values()))),
        account_subject(account.aci),
        after=lambda: disconnect(desk.wakeups, mailboxes),
    )


async def _grant(_desk: Desk, db: AsyncConnection, granted: LimitGranted, _by: Operator) -> Done:
    try:
        bucket = bucket_of(granted.limit, granted.at_once, granted.refill_seconds)
    except ValueError:
        raise InvalidInput(("atOnce", "refillSeconds"), "A bucket holds 1 or more, and is refilled in time.") from None
    account = await lock_named(db, granted.aci)
    await set_grant(db, account.aci, granted.limit, bucket)
    return Done((Effect("grants", 1),), account_subject(account.aci))


async def _ungrant(_desk: Desk, db: AsyncConnection, named: LimitNamed, _by: Operator) -> Done:
    account = await lock_named(db, named.aci)
    if not await remove_grant(db, account.id, named.limit):
        raise NothingThere("The account has no such grant.")
    return Done((Effect("grants", 1),), account_subject(account.aci))


async def lock_named(db: AsyncConnection, aci: UUID) -> Account:
    """The account with this id, locked until the transaction ends.

    Raises:
        NothingThere: there is none.
    """
    locked = await lock_account_by_id(db, (await _require(db, aci)).id)
    if locked is None:
        raise NothingThere
    return locked


async def _require(db: AsyncConnection, aci: UUID) -> Account:
    account = await find_account(db, ServiceId(aci))
    if account is None:
        raise NothingThere
    return account


def _subject(named: AccountNamed) -> str:
    return account_subject(named.aci)


P = Permission
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "accounts.search",
        "Accounts: one by its id, number or username, or the newest",
        P.ACCOUNTS_SEE,
        AccountSearch,
        AccountsFound,
        _search,
        of_account=True,
        subject_found=_named_found,
    ),
    View(
        "accounts.show",
        "An account: devices, limits, state",
        P.ACCOUNTS_SEE,
        AccountNamed,
        AccountShown,
        _show,
        of_account=True,
        subject=_subject,
    ),
    View(
        "accounts.report",
        "All that this server holds about an account, as an authority would get it",
        P.ACCOUNTS_REPORT,
        AccountNamed,
        AccountReport,
        _report,
        of_account=True,
        subject=_subject,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "accounts.suspend",
        "Stop an account: it keeps what it has, and can neither connect nor send",
        P.ACCOUNTS_SUSPEND,
        AccountNamed,
        _suspend,
        dangerous=True,
    ),
    Action("accounts.unsuspend", "Let a suspended account go on", P.ACCOUNTS_SUSPEND, AccountNamed, _unsuspend),
    Action(
        "accounts.delete",
        "Delete an account and everything in it; nobody can undo this",
        P.ACCOUNTS_DELETE,
        AccountNamed,
        _delete,
        dangerous=True,
    ),
    Action(
        "devices.revoke",
        "Remove linked devices of an account, with what waits for them",
        P.DEVICES_REVOKE,
        DevicesNamed,
        _revoke,
        dangerous=True,
    ),
    Action("limits.grant", "Give one account another limit than the usual one", P.LIMITS_GRANT, LimitGranted, _grant),
    Action("limits.ungrant", "Take a grant back", P.LIMITS_GRANT, LimitNamed, _ungrant),
)
