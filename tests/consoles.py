"""Consoles in this process for tests, each beside a database of its own, and browsers that speak to them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http.cookies import Morsel
from typing import Any

import aiohttp
from yarl import URL

from messaging.console.app import RunningConsole, open_console
from messaging.console.settings import Settings
from messaging.relay.admin.door import Door
from messaging.relay.admin.permissions import Role
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.server_secret import ServerSecret, secret_of
from tests.authenticators import Authenticator
from tests.relays import Relays

START = 1_800_000_000_000  # milliseconds since 1970; the clock of a test begins here
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class StandingClock:
    """Milliseconds since 1970, which go on only when a test says so."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, *, milliseconds: int = 0, minutes: float = 0) -> None:
        """Let time pass."""
        self.now += milliseconds + int(minutes * 60_000)


@dataclass(frozen=True)
class Answer:
    """What a console has answered."""

    status: int
    headers: Mapping[str, str]
    text: str = field(repr=False)
    json: Any = field(repr=False)


@dataclass
class Browser:
    """Somebody's browser: it keeps cookies, and says where what it sends comes from."""

    url: str
    http: aiohttp.ClientSession
    origin: str
    passkey: Authenticator

    @property
    def cookie(self) -> Morsel[str] | None:
        """The cookie of the console."""
        return self.http.cookie_jar.filter_cookies(URL(self.url)).get("subrosa")

    async def get(self, path: str, **headers: str) -> Answer:
        """Open a page, and follow no redirection."""
        return await self.send("GET", path, headers=headers)

    async def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """Send a form of a page of the console."""
        return await self.send("POST", path, headers={**self.ours, **headers}, data=dict(form or {}))

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send what a script of a page of the console sends."""
        return await self.send("POST", path, headers=self.ours, json=dict(body))

    @property
    def ours(self) -> dict[str, str]:
        """What browsers say of what a page of the console sends."""
        return {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}

    async def send(self, method: str, path: str, *, headers: Mapping[str, str], **body: Any) -> Answer:
        """Send anything."""
        told = {"User-Agent": FIREFOX, **headers}
        async with self.http.request(method, self.url + path, headers=told, allow_redirects=False, **body) as answer:
            text = await answer.text()
            said = await answer.json() if answer.content_type == "application/json" else None
            return Answer(answer.status, answer.headers, text, said)

    async def enrol(self, code: str, name: str = "") -> Answer:
        """Become an operator, with this browser's passkey."""
        asked = {"code": code, "name": name, "passkeyName": "a key"}
        options = await self.post_json("/enrol/options", asked)
        if options.status != 200:
            return options
        return await self.post_json("/enrol/passkey", {**asked, "credential": self.passkey.create(options.json)})

    async def challenge(self) -> Mapping[str, Any]:
        """Begin to sign in."""
        return dict((await self.post_json("/sign-in/options", {})).json)

    async def sign_in(self) -> Answer:
        """Sign in with this browser's passkey."""
        return await self.post_json("/sign-in/passkey", {"credential": self.passkey.get(await self.challenge())})

    async def add_passkey(self, passkey: Authenticator) -> Answer:
        """Add another one to one's own account."""
        options = await self.post_json("/account/passkeys/options", {})
        if options.status != 200:
            return options
        made = {"passkeyName": "another key", "credential": passkey.create(options.json)}
        return await self.post_json("/account/passkeys", made)


@dataclass(frozen=True)
class StartedConsole:
    """A console in this process, and what is behind it."""

    running: RunningConsole
    settings: Settings
    clock: StandingClock
    database: Database
    secret: ServerSecret
    stack: AsyncExitStack = field(repr=False)

    @property
    def door(self) -> Door:
        """Behind the web."""
        return Door(self.database, self.secret, self.clock)

    @property
    def first_code(self) -> str:
        """The code with which the owner enrols."""
        return (self.running.first_link or "").partition("#")[2]

    async def browser(self) -> Browser:
        """Somebody's, without any cookie."""
        http = await self.stack.enter_async_context(aiohttp.ClientSession())
        return Browser(self.running.url, http, self.running.url, Authenticator(self.running.url))

    async def owner(self, name: str = "Ada") -> Browser:
        """The first operator's, signed in."""
        browser = await self.browser()
        assert (await browser.enrol(self.first_code, name)).status == 200
        return browser

    async def operator(self, role: Role, name: str) -> Browser:
        """Another one's, signed in."""
        browser = await self.browser()
        assert (await browser.enrol(await self.door.invite_by_terminal(role, None), name)).status == 200
        return browser


async def start_console(
    relays: Relays, stack: AsyncExitStack, backend: str = "sqlite", **settings: Any
) -> StartedConsole:
    """A console on a database of its own, where no relay runs."""
    relay = await relays.settings(backend)
    values = {
        "port": 0,
        "database_url": relay.database_url,
        "secret_file": relay.secret_file,
        "redis_url": relay.redis_url,
        "attachments_url": relay.attachments_url,
    }
    given, clock = Settings(**{**values, **settings}), StandingClock()
    url = normalise_url(relay.database_url)
    database = open_database(url)
    stack.push_async_callback(database.close)
    running = await stack.enter_async_context(open_console(given, now=clock))
    return StartedConsole(running, given, clock, database, secret_of(relay.secret_file, None, create=False), stack)
