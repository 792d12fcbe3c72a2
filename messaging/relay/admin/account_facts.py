"""What an operator sees of one account while helping somebody: days, counts and sizes. The report of everything is ``account_report``."""

from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.invites import Role
from messaging.relay.accounts.tables import Account, AccountRow, DeviceRow
from messaging.relay.accounts.usernames import UsernameRow
from messaging.relay.admin.limits import MAX_COUNTED
from messaging.relay.admin.parameters import day_text
from messaging.relay.grants import grants_of
from messaging.relay.limits import BOT_DEFAULTS, DEFAULTS, Bucket, Limit, Sizes, layered
from messaging.relay.messages.tables import count_up_to
from messaging.relay.operator_settings import LIMITS, read_setting
from messaging.relay.profiles.tables import ProfileRow
from messaging.wire.json import Entity

NOT_SEARCHABLE: Final = (
    "By the text of a username: the server keeps a hash that only clients compute.",
    "By a part of a number: the server keeps a keyed hash of the whole.",
    "By a name, an address or a contact: the server has none of them.",
)


class DeviceShown(Entity):
    """A device. ``created`` and ``last_seen`` are days (UTC); ``waiting`` counts envelopes, up to ``MAX_COUNTED``."""

    device_id: int
    created: str
    last_seen: str
    encrypted_name: bool
    capabilities: tuple[str, ...]
    waiting: int
    waiting_is_more: bool
    parked: int


class GrantShown(Entity):
    """A limit that was granted to this account: ``at_once`` tokens, then one every ``refill_seconds``; and what it would have."""

    limit: str
    at_once: float
    refill_seconds: float
    usual_at_once: float | None
    usual_refill_seconds: float | None


class AccountShown(Entity):
    """An account. ``kind`` is ``person``, ``bot`` or ``assistant``; ``state`` is ``active`` or ``suspended``."""

    aci: UUID
    kind: str
    role: str | None
    assistant: str | None
    state: str
    suspended_at: int | None
    created: str
    number_kept_as_hash: bool
    found_by_number: bool
    registration_lock: bool
    sealed_sender_from_anyone: bool
    username: bool
    username_link: bool
    profile_versions: int
    profile_bytes: int
    avatar: bool
    devices: tuple[DeviceShown, ...]
    grants: tuple[GrantShown, ...]


def kind_of(role: str | None, assistant_name: str | None) -> str:
    """What an account is to everybody: a person, a bot or an assistant."""
    if assistant_name is not None:
        return "assistant"
    return "bot" if role == Role.BOT else "person"


async def show_account(db: AsyncConnection, account: Account) -> AccountShown:
    """What there is to see of an account that exists."""
    row, name, profile = AccountRow, UsernameRow, ProfileRow
    query = select(
        row.assistant_name, row.created_on, row.number_hash.is_not(None), row.discoverable, row.lock_hash.is_not(None)
    )
    assistant, created_on, numbered, discoverable, locked = (await db.execute(query.where(row.id == account.id))).one()
    named = select(name.link_handle.is_not(None)).where(name.account_id == account.id, name.confirmed)
    links = list(await db.scalars(named))
    size = func.coalesce(func.sum(profile_size()), 0)
    profiles = select(func.count(), size, func.count(profile.avatar)).where(profile.account_id == account.id)
    versions, profile_bytes, avatars = (await db.execute(profiles)).one()
    return AccountShown(
        aci=account.aci,
        kind=kind_of(account.role, assistant),
        role=account.role,
        assistant=assistant,
        state="suspended" if account.is_suspended else "active",
        suspended_at=account.suspended_at,
        created=day_text(created_on),
        number_kept_as_hash=bool(numbered),
        found_by_number=bool(numbered and discoverable),
        registration_lock=bool(locked),
        sealed_sender_from_anyone=account.unrestricted_access,
        username=bool(links),
        username_link=any(links),
        profile_versions=versions,
        profile_bytes=int(profile_bytes),
        avatar=avatars > 0,
        devices=tuple(await _devices(db, account.id)),
        grants=tuple(await _grants(db, account)),
    )


def profile_size() -> ColumnElement[int]:
    """For a query of profiles: the bytes of one version."""
    row = ProfileRow
    fields = (row.commitment, row.name, row.about, row.about_emoji, row.payment_address, row.phone_number_sharing)
    size: ColumnElement[int] = func.coalesce(func.length(fields[0]), 0)
    for each in fields[1:]:
        size = size + func.coalesce(func.length(each), 0)
    return size


async def _devices(db: AsyncConnection, account_id: int) -> list[DeviceShown]:
    row = DeviceRow
    query = select(
        row.device_id,
        row.created_on,
        row.seen_on,
        row.name.is_not(None),
        row.capabilities,
        count_up_to(MAX_COUNTED + 1, row.mailbox_id),
        count_up_to(MAX_COUNTED, row.mailbox_id, parked=True),
    )
    found = await db.execute(query.where(row.account_id == account_id).order_by(row.device_id))
    return [
        DeviceShown(
            device_id=device_id,
            created=day_text(created_on),
            last_seen=day_text(seen_on),
            encrypted_name=bool(named),
            capabilities=tuple(sorted(name for name, has in capabilities.items() if has)),
            waiting=min(waiting, MAX_COUNTED),
            waiting_is_more=waiting > MAX_COUNTED,
            parked=parked,
        )
        for device_id, created_on, seen_on, named, capabilities, waiting, parked in found
    ]


async def _grants(db: AsyncConnection, account: Account) -> list[GrantShown]:
    usual = await usual_sizes(db)
    shown = []
    for name, bucket in await grants_of(db, account.id):
        instead = _usual(usual, name, bot=account.is_bot)
        shown.append(
            GrantShown(
                limit=name,
                at_once=bucket.size,
                refill_seconds=bucket.refill,
                usual_at_once=None if instead is None else instead.size,
                usual_refill_seconds=None if instead is None else instead.refill,
            )
        )
    return shown


async def usual_sizes(db: AsyncConnection) -> Sizes:
    """The limits of everybody as operators have set them above the defaults; a relay's own file is not known here."""
    setting = await read_setting(db, LIMITS)
    base = Sizes(DEFAULTS, BOT_DEFAULTS)
    return base if setting is None else layered(base, setting.document)


def _usual(sizes: Sizes, name: str, *, bot: bool) -> Bucket | None:
    if name not in frozenset(Limit):
        return None
    limit = Limit(name)
    return (bot and sizes.bots.get(limit)) or sizes.everybody[limit]
