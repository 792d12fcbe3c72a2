"""Settings that operators change while relays run: documents by name, each change a new version, none ever lost.

Relays read them every few seconds (``SettingsBook``); the newest version of a name stands that they can apply. Undoing is writing an
older one again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, Database
from messaging.serving.logs import get_logger

READ_SECONDS = 10
MAX_TRIED = 20  # versions that are looked at for one that can be applied
LIMITS, REMOTE_CONFIG = "limits", "remote_config"  # names of settings that relays read


class SettingRow(Base):
    """One version of a setting."""

    __tablename__ = "operator_settings"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    changed_at: Mapped[int] = mapped_column(BigInteger)
    changed_by: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True, slots=True)
class Setting:
    """A version of a document. ``changed_at`` is in milliseconds since 1970."""

    name: str
    version: int
    document: Mapping[str, Any]
    changed_at: int
    changed_by: str


class VersionTaken(Exception):
    """Somebody has written this version already."""


async def read_setting(db: AsyncConnection, name: str) -> Setting | None:
    """The version that stands; ``None`` if there was never any."""
    found = await read_versions(db, name, limit=1)
    return found[0] if found else None


async def read_versions(db: AsyncConnection, name: str, *, limit: int) -> list[Setting]:
    """The latest versions, newest first."""
    row = SettingRow
    query = select(row.name, row.version, row.document, row.changed_at, row.changed_by).where(row.name == name)
    return [Setting(*found) for found in await db.execute(query.order_by(row.version.desc()).limit(limit))]


async def read_version(db: AsyncConnection, name: str, version: int) -> Setting | None:
    """One version; ``None`` if there is none."""
    row = SettingRow
    query = select(row.name, row.version, row.document, row.changed_at, row.changed_by)
    found = (await db.execute(query.where(row.name == name, row.version == version))).one_or_none()
    return None if found is None else Setting(*found)


async def write_setting(
    db: AsyncConnection, name: str, document: Mapping[str, Any], *, after: int, at: int, by: str
) -> int:
    """Add the version behind ``after`` (0 for none), which the writer has seen; returns its number.

    Raises:
        VersionTaken: there is a later one.
    """
    row = SettingRow
    latest = (await db.execute(select(func.coalesce(func.max(row.version), 0)).where(row.name == name))).scalar_one()
    if latest != after:
        raise VersionTaken
    values = {"name": name, "version": after + 1, "document": dict(document), "changed_at": at, "changed_by": by}
    try:
        await db.execute(insert(row).values(values))
    except IntegrityError:
        raise VersionTaken from None
    return after + 1


class SettingsBook:
    """What stands of some settings, as it was a few seconds ago; ``apply`` is told of each that has changed."""

    def __init__(self, database: Database, apply: Mapping[str, Callable[[Mapping[str, Any]], None]]) -> None:
        self._database = database
        self._apply = apply
        self._known: dict[str, tuple[int, int] | None] = {}  # version and time: a restored database counts anew

    async def read(self) -> None:
        """Look at the latest versions, and apply what is new.

        What cannot be applied is left out, and said in the log: the latest one before it stands, at a relay's start too.
        """
        changed: dict[str, list[Setting]] = {}
        async with self._database.read() as db:
            for name in self._apply:
                setting = await read_setting(db, name)
                stands = None if setting is None else (setting.version, setting.changed_at)
                if self._known.get(name) != stands:
                    self._known[name] = stands
                    changed[name] = await read_versions(db, name, limit=MAX_TRIED)
        for name, versions in changed.items():
            self._let_stand(name, versions)

    def _let_stand(self, name: str, versions: Sequence[Setting]) -> None:
        for version, document in [*((each.version, each.document) for each in versions), (0, {})]:
            try:
                self._apply[name](document)
            except Exception as error:  # noqa: BLE001 - whatever is in it: a relay does not stop for it
                failed = type(error).__name__
                get_logger().warning("setting_not_applied", setting=name, version=version, error=failed)
            else:
                return

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 - what stood before stands; the next look is seconds away
                get_logger().warning("settings_not_read", error=type(error).__name__)
            await asyncio.sleep(READ_SECONDS)
