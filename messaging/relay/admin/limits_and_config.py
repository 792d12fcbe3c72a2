"""Limits for everybody and remote configuration, as domains of the console: settings with versions, above the files of the relays.

Each change is a whole new version; the one before is never lost, and undoing is writing it again. Relays apply what stands within
seconds.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.desk import Action, Desk, Done, Effect, Nothing, Operator, View
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_CONFIG_ACCOUNTS, MAX_CONFIG_NAMES, MAX_VERSIONS
from messaging.relay.admin.permissions import Permission
from messaging.relay.limits import (
    BOT_DEFAULTS,
    BOTS,
    DEFAULTS,
    EVERYBODY,
    Bucket,
    Limit,
    LiveSizes,
    Sizes,
    live_bucket_of,
)
from messaging.relay.operator_settings import (
    LIMITS,
    READ_SECONDS,
    REMOTE_CONFIG,
    Setting,
    VersionTaken,
    read_setting,
    read_version,
    read_versions,
    write_setting,
)
from messaging.relay.remote_config import LiveConfig
from messaging.wire.json import Entity

_MAX_VERSION = 2**31 - 1

Version = Annotated[int, Field(ge=0, le=_MAX_VERSION)]
Seen = Annotated[
    Version | None, Field(description="The version that you saw: if there is a later one by now, nothing is changed")
]
Parts = Callable[[Mapping[str, Any]], dict[str, dict[str, Any]]]  # what can differ in a document, by its name
ConfigName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class Difference(Entity):
    """One thing that a version says otherwise than the one before; what is ``None`` was or is not said."""

    what: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class VersionShown(Entity):
    """A version of a setting, with its differences from the one before."""

    version: int
    changed_at: int
    changed_by: str
    differences: tuple[Difference, ...]


class LimitShown(Entity):
    """A limit: a bucket of ``at_once`` tokens, and then one every ``refill_seconds``. ``set``: operators have set it.

    What is not set is as the relays' own files say, or as here, which is what stands without a file.
    """

    limit: str
    bots: bool
    at_once: float
    refill_seconds: float
    set: bool


class LimitsShown(Entity):
    """The limits as they stand, and the latest versions. ``version`` 0: operators have set nothing yet."""

    version: int
    applied_within_seconds: int
    limits: tuple[LimitShown, ...]
    versions: tuple[VersionShown, ...]


class LimitChange(Entity):
    """What a limit is from now on; without numbers, what the relays' files say."""

    limit: Limit
    bots: bool = Field(False, description="For bots alone")
    at_once: float | None = Field(None, description="So many at once")
    refill_seconds: float | None = Field(None, description="Then one more every so many seconds")
    seen: Seen = None


class ConfigShown(Entity):
    """A value for clients: for ``percentage`` of all accounts, and always for those that it names. ``hidden``: for nobody.

    ``named_accounts`` says how many these are; ``accounts``, which, to who may see accounts.
    """

    name: str
    value: str | None
    percentage: float
    named_accounts: int
    accounts: tuple[UUID, ...]
    hidden: bool


class ConfigsShown(Entity):
    """What operators have set above the relays' files, and the latest versions."""

    version: int
    applied_within_seconds: int
    values: tuple[ConfigShown, ...]
    versions: tuple[VersionShown, ...]


class ConfigChange(Entity):
    """What a name stands for from now on. Without ``value`` and without ``hidden``, what the relays' files say."""

    name: ConfigName
    value: str | None = Field(None, max_length=1024)
    percentage: float = Field(100, ge=0, le=100, description="Of all accounts, always the same ones")
    accounts: tuple[UUID, ...] = Field((), max_length=MAX_CONFIG_ACCOUNTS, description="Accounts that always have it")
    hidden: bool = Field(False, description="Nobody has it, whatever the files say")
    seen: Seen = None


class VersionNamed(Entity):
    """The version to go back to; 0 for the relays' files alone."""

    version: Version
    seen: Seen = None


async def _show_limits(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> LimitsShown:
    versions = await read_versions(db, LIMITS, limit=MAX_VERSIONS + 1)
    document = versions[0].document if versions else {}
    shown = [
        _limit(limit, bucket, document.get(whose, {}).get(limit.value), bots=whose == BOTS)
        for whose, defaults in ((EVERYBODY, DEFAULTS), (BOTS, _bot_limits(document)))
        for limit, bucket in defaults.items()
    ]
    return LimitsShown(
        version=versions[0].version if versions else 0,
        applied_within_seconds=READ_SECONDS,
        limits=tuple(shown),
        versions=_told(versions, _buckets),
    )


def _bot_limits(document: Mapping[str, Any]) -> dict[Limit, Bucket]:
    """Those that bots have instead: their defaults, unless everybody's are set, and what is set for them."""
    everybody, known = document.get(EVERYBODY, {}), frozenset(Limit)
    found = {limit: bucket for limit, bucket in BOT_DEFAULTS.items() if limit not in everybody}
    return found | {Limit(name): DEFAULTS[Limit(name)] for name in document.get(BOTS, {}) if name in known}


def _limit(limit: Limit, bucket: Bucket, table: Mapping[str, Any] | None, *, bots: bool) -> LimitShown:
    size, refill = (bucket.size, bucket.refill) if table is None else (table["size"], table["refill"])
    return LimitShown(limit=limit, bots=bots, at_once=size, refill_seconds=refill, set=table is not None)


async def _change_limit(desk: Desk, db: AsyncConnection, change: LimitChange, by: Operator) -> Done:
    table = _bucket_table(change)
    setting = await _seen(db, LIMITS, change.seen)
    whose = BOTS if change.bots else EVERYBODY
    tables = {**_document(setting).get(whose, {})}
    before = tables.pop(change.limit.value, None)
    document = {**_document(setting), whose: tables if table is None else {**tables, change.limit.value: table}}
    if before == table:
        raise Conflict("It stands so already.")
    return await _write(desk, db, LIMITS, setting, document, by, _buckets)


def _bucket_table(change: LimitChange) -> dict[str, float] | None:
    match change.at_once, change.refill_seconds:
        case None, None:
            return None
        case float() | int() as size, float() | int() as refill:
            try:
                bucket = live_bucket_of(change.limit, size, refill)
            except ValueError:
                raise _refused(change.limit) from None
            return {"size": bucket.size, "refill": bucket.refill}
        case _:
            raise InvalidInput(("atOnce", "refillSeconds"), "Say both numbers, or none.")


def _refused(limit: Limit) -> InvalidInput:
    where = ("atOnce", "refillSeconds")
    if limit is Limit.REQUESTS:
        return InvalidInput(
            where, "Requests are 50 at once or more, and one more every 10 seconds or sooner: nobody is shut out."
        )
    return InvalidInput(where, "A bucket holds 1 or more, and is refilled in time.")


async def _show_config(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> ConfigsShown:
    versions = await read_versions(db, REMOTE_CONFIG, limit=MAX_VERSIONS + 1)
    document = versions[0].document if versions else {}
    return ConfigsShown(
        version=versions[0].version if versions else 0,
        applied_within_seconds=READ_SECONDS,
        values=tuple(_config(name, table) for name, table in sorted(document.items())),
        versions=_told(versions, _values),
    )


def _config(name: str, table: Mapping[str, Any] | None) -> ConfigShown:
    found = table or {}
    return ConfigShown(
        name=name,
        value=found.get("value"),
        percentage=found.get("percentage", 100),
        named_accounts=len(found.get("accounts", ())),
        accounts=tuple(map(UUID, found.get("accounts", ()))),
        hidden=table is None,
    )


def _config_shown_to(shown: ConfigsShown, operator: Operator) -> ConfigsShown:
    """Who may not see accounts is told how many a value names, and not which."""
    if Permission.ACCOUNTS_SEE in operator.permissions:
        return shown
    return shown.model_copy(update={"values": tuple(each.model_copy(update={"accounts": ()}) for each in shown.values)})


def _accounts_found(_: Nothing, shown: ConfigsShown) -> str | None:
    """For the audit log: which accounts have a value always is told of some; else nothing is told of any."""
    return "accounts that values name" if any(each.accounts for each in shown.values) else None


async def _change_config(desk: Desk, db: AsyncConnection, change: ConfigChange, by: Operator) -> Done:
    if change.hidden and change.value is not None:
        raise InvalidInput(("hidden", "value"), "What nobody has, has no value.")
    setting = await _seen(db, REMOTE_CONFIG, change.seen)
    document = {**_document(setting)}
    absent = object()
    before = document.pop(change.name, absent)
    if change.hidden:
        document[change.name] = None
    elif change.value is not None:
        accounts = sorted(map(str, set(change.accounts)))
        document[change.name] = {"value": change.value, "percentage": change.percentage, "accounts": accounts}
    if len(document) > MAX_CONFIG_NAMES:
        raise Conflict("Too many names are set already.")
    if before == document.get(change.name, absent):
        raise Conflict("It stands so already.")
    return await _write(desk, db, REMOTE_CONFIG, setting, document, by, _values)


def _undo(name: str, parts: Parts) -> Callable[[Desk, AsyncConnection, VersionNamed, Operator], Awaitable[Done]]:
    async def undo(desk: Desk, db: AsyncConnection, named: VersionNamed, by: Operator) -> Done:
        setting = await _seen(db, name, named.seen)
        older = None if named.version == 0 else await read_version(db, name, named.version)
        if setting is None or (named.version and older is None):
            raise NothingThere("There is no such version.")
        if _document(older) == setting.document:
            raise Conflict("It stands so already.")
        return await _write(desk, db, name, setting, _document(older), by, parts)

    return undo


async def _seen(db: AsyncConnection, name: str, seen: int | None) -> Setting | None:
    """What stands now.

    Raises:
        Conflict: it is not what the operator saw.
    """
    setting = await read_setting(db, name)
    if seen is not None and seen != (0 if setting is None else setting.version):
        raise Conflict
    return setting


async def _write(
    desk: Desk,
    db: AsyncConnection,
    name: str,
    setting: Setting | None,
    document: Mapping[str, Any],
    by: Operator,
    parts: Parts,
) -> Done:
    after = 0 if setting is None else setting.version
    _check(name, document)
    try:
        version = await write_setting(db, name, document, after=after, at=desk.now(), by=by.name)
    except VersionTaken:
        raise Conflict from None
    differences = _differences(parts(_document(setting)), parts(document))
    told = {each.what: {"before": each.before, "after": each.after} for each in differences}
    return Done((Effect("values", len(differences)),), f"setting {name}", {"version": version, "differences": told})


def _check(name: str, document: Mapping[str, Any]) -> None:
    """See that relays apply it, by what they apply it with: an older version may stand beyond bounds of today.

    Raises:
        Conflict: they would refuse it.
    """
    apply = LiveSizes(Sizes(DEFAULTS, BOT_DEFAULTS)).apply if name == LIMITS else LiveConfig({}).apply
    try:
        apply(document)
    except ValueError:
        raise Conflict("Relays refuse it: it holds something beyond the bounds of this version.") from None


def _document(setting: Setting | None) -> Mapping[str, Any]:
    return {} if setting is None else setting.document


def _buckets(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{name} ({whose})": {"atOnce": table["size"], "refillSeconds": table["refill"]}
        for whose in (EVERYBODY, BOTS)
        for name, table in document.get(whose, {}).items()
    }


def _values(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """How many accounts have a value always, not which: an audit entry stays for ever."""
    return {
        name: {"hidden": True} if table is None else {**table, "accounts": len(table.get("accounts", ()))}
        for name, table in document.items()
    }


def _differences(before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> tuple[Difference, ...]:
    return tuple(
        Difference(what=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _told(versions: list[Setting], parts: Parts) -> tuple[VersionShown, ...]:
    """Newest first; the last one that was read is there to be compared with."""
    older = [*versions[1:], None]
    return tuple(
        VersionShown(
            version=each.version,
            changed_at=each.changed_at,
            changed_by=each.changed_by,
            differences=_differences(parts(_document(before)), parts(each.document)),
        )
        for each, before in zip(versions[:MAX_VERSIONS], older, strict=False)
    )


P = Permission
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("limits.show", "Limits for everybody, and what was changed", P.CONFIG_SEE, Nothing, LimitsShown, _show_limits),
    View(
        "config.show",
        "Values for clients, and what was changed",
        P.CONFIG_SEE,
        Nothing,
        ConfigsShown,
        _show_config,
        of_account=True,
        subject_found=_accounts_found,
        shown_to=_config_shown_to,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "limits.change",
        "Change a limit for everybody, or for bots",
        P.LIMITS_CHANGE,
        LimitChange,
        _change_limit,
        dangerous=True,
    ),
    Action(
        "limits.undo",
        "Go back to an earlier version of the limits",
        P.LIMITS_CHANGE,
        VersionNamed,
        _undo(LIMITS, _buckets),
        dangerous=True,
    ),
    Action(
        "config.change",
        "Change a value for clients, for all accounts or a part of them",
        P.CONFIG_CHANGE,
        ConfigChange,
        _change_config,
        dangerous=True,
        parameters_for_log=frozenset({"name", "value", "percentage", "hidden", "seen"}),
    ),
    Action(
        "config.undo",
        "Go back to an earlier version of the values for clients",
        P.CONFIG_CHANGE,
        VersionNamed,
        _undo(REMOTE_CONFIG, _values),
        dangerous=True,
    ),
)
