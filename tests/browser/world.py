"""A console and a relay on one database, with people, operators and things to see in it; and browsers that are signed in.

Everything is real and in this process, but the browser. Whoever signs in has enrolled by a link, with a passkey of a virtual authenticator.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from playwright.async_api import Browser, Page, StorageState

from messaging.console.app import RunningConsole, open_console
from messaging.console.settings import Settings
from messaging.relay.admin.audit import Entry
from messaging.relay.admin.audit_tables import entries_before
from messaging.relay.admin.door import Door
from messaging.relay.admin.operators_domain import ENROL_PATH
from messaging.relay.admin.permissions import Role
from messaging.relay.clock import Clock
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.server_secret import ServerSecret
from tests.browser.driving import Authenticator, new_context
from tests.devices import Peer
from tests.messaging.relay.admin.town import Town, a_town
from tests.relays import Relays, StartedRelay

SECRET_BYTES: Final = b"s" * 32  # of which the town's secret is derived

OpenPage = Callable[..., Awaitable[Page]]
SignInAs = Callable[..., Awaitable[Page]]


@dataclass
class World:
    """A console, and what is behind it. ``kept`` are the cookies of roles that have signed in."""

    console: RunningConsole
    database: Database
    door: Door
    browser: Browser
    kept: dict[Role, StorageState] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where browsers reach the console."""
        return self.console.url

    async def invitation(self, role: Role) -> str:
        """An enrolment link for somebody new with this role."""
        return f"{self.url}{ENROL_PATH}{await self.door.invite_by_terminal(role, None)}"

    async def cookies_of(self, role: Role) -> StorageState:
        """Those of an operator with this role, who has enrolled."""
        if role not in self.kept:
            context = await new_context(self.browser)
            page = await context.new_page()
            await enrol(page, await self.invitation(role), name_of(role))
            self.kept[role] = await context.storage_state()
            await context.close()
        return self.kept[role]

    async def audit(self, action: str) -> list[Entry]:
        """The latest entries about an action, newest first."""
        async with self.database.read() as db:
            return await entries_before(db, None, limit=50, action=action)


@dataclass
class PopulatedWorld(World):
    """The same with a town in the database, and a relay that serves it."""

    town: Town = field(kw_only=True)
    relay: StartedRelay = field(kw_only=True)
    peer: Peer = field(kw_only=True)


def name_of(role: Role) -> str:
    """What the operator with a role is called."""
    return f"the {role}"


async def enrol(page: Page, link: str, name: str) -> Authenticator:
    """Become an operator by a link; ends on the operator's own page."""
    authenticator = await Authenticator.plug_in(page)
    await page.goto(link)
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Make a passkey").click()
    await page.wait_for_url("**/account")
    return authenticator


@asynccontextmanager
async def an_empty_world(folder: Path, template: Path, browser: Browser) -> AsyncIterator[World]:
    """A console on a database that nobody has used yet, while the block lasts."""
    async with AsyncExitStack() as stack:
        database, settings = await _database(folder, template, stack)
        yield World(await stack.enter_async_context(open_console(settings)), database, _door(database), browser)


@asynccontextmanager
async def a_populated_world(
    folder: Path, template: Path, browser: Browser, relays: Relays
) -> AsyncIterator[PopulatedWorld]:
    """A console, a relay and a town on one SQLite file, while the block lasts."""
    async with AsyncExitStack() as stack:
        database, settings = await _database(folder, template, stack)
        town = await a_town(database)
        relay = await relays.serve(
            await relays.settings("sqlite", database_url=settings.database_url, secret_file=settings.secret_file)
        )
        console = await stack.enter_async_context(open_console(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield PopulatedWorld(
            console, database, _door(database), browser, town=town, relay=relay, peer=Peer(relay, http)
        )


async def _database(folder: Path, template: Path, stack: AsyncExitStack) -> tuple[Database, Settings]:
    path, secret_file = folder / "relay.db", folder / "secret"
    shutil.copy(template, path)
    secret_file.write_bytes(SECRET_BYTES)
    url = f"sqlite:///{path}"
    database = open_database(normalise_url(url))
    stack.push_async_callback(database.close)
    return database, Settings(port=0, database_url=url, secret_file=secret_file)


def _door(database: Database) -> Door:
    return Door(database, ServerSecret.derive(SECRET_BYTES), Clock())
