"""What the browser tests do with a page: watch it for faults, sign in with a passkey of their own, look at it, check it with axe."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    ViewportSize,
)
from yarl import URL

from tests.browser.chromium import Chromium
from tests.browser.packages import axe_script

SCREENSHOTS: Final = Path(__file__).resolve().parents[2] / "build" / "screenshots"  # not committed
WAIT_MILLISECONDS: Final = 10_000
DESK: Final = ViewportSize(width=1280, height=900)
PHONE: Final = ViewportSize(width=390, height=844)
LOOKS: Final[tuple[tuple[str, Literal["light", "dark"], ViewportSize], ...]] = (
    ("light", "light", DESK),
    ("dark", "dark", DESK),
    ("phone", "light", PHONE),
)
SERIOUS: Final = frozenset({"serious", "critical"})
_QUIET: Final = (  # a browser that is alone with the console
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_NOT_OF_THE_NETWORK: Final = frozenset({"about", "blob", "data"})


@asynccontextmanager
async def running_browser(playwright: Playwright, chromium: Chromium) -> AsyncIterator[Browser]:
    """A Chromium without a screen, while the block lasts."""
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox refuses root
    browser = await playwright.chromium.launch(
        executable_path=chromium.executable,
        args=[*_QUIET, *as_root],
        env={**os.environ, **chromium.environment},
    )
    try:
        yield browser
    finally:
        await browser.close()


@dataclass
class Watch:
    """Writes down what a page must never do: an error in its console, a breach of its policy, a request to somebody else.

    Chromium tells of breaches of the content security policy as errors in the console. ``expected`` are parts of messages that a test
    provokes, such as ``status of 403``.
    """

    origin: str
    expected: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        """Watch this page from now on."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"a script failed: {error.message}"))
        page.on("request", self._asked)

    def verdict(self) -> list[str]:
        """The faults that no test has expected."""
        return [fault for fault in self.faults if not any(part in fault for part in self.expected)]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"an error in the console: {message.text} ({message.location['url']})")

    def _asked(self, request: Request) -> None:
        url = URL(request.url)
        if url.scheme not in _NOT_OF_THE_NETWORK and str(url.origin()) != self.origin:
            self.faults.append(f"a request to somebody else: {request.url}")


class Authenticator:
    """A passkey provider in the browser that always says yes: WebAuthn's virtual authenticator, over the DevTools protocol.

    It belongs to one page. What it holds can be carried to another one, as a person carries a key.
    """

    def __init__(self, session: CDPSession, number: str) -> None:
        self._session = session
        self._number = number

    @classmethod
    async def plug_in(cls, page: Page, credentials: Sequence[Mapping[str, Any]] = ()) -> "Authenticator":
        """Give ``page`` an authenticator, with these credentials."""
        session = await page.context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        authenticator = cls(session, made["authenticatorId"])
        for credential in credentials:
            await authenticator._send("addCredential", credential=dict(credential))
        return authenticator

    async def credentials(self) -> list[Mapping[str, Any]]:
        """What it holds."""
        found: list[Mapping[str, Any]] = (await self._send("getCredentials"))["credentials"]
        return found

    async def forget(self) -> None:
        """Lose all that it holds."""
        await self._send("clearCredentials")

    async def unplug(self) -> None:
        """Take it away, with all that it holds."""
        await self._send("removeVirtualAuthenticator")

    async def verify_user(self, verified: bool) -> None:
        """Whether it finds, from now on, that its user is who they say."""
        await self._send("setUserVerified", isUserVerified=verified)

    async def _send(self, verb: str, **more: Any) -> dict[str, Any]:
        parameters = {"authenticatorId": self._number, **more}
        found: dict[str, Any] = await self._session.send(f"WebAuthn.{verb}", parameters)
        return found


async def new_context(browser: Browser, **more: Any) -> BrowserContext:
    """A browser of somebody else's: no cookies, English, the desk's size."""
    options = {"locale": "en-US", "viewport": DESK, "reduced_motion": "reduce", **more}
    context = await browser.new_context(**options)
    context.set_default_timeout(WAIT_MILLISECONDS)
    return context


async def take_screenshots(page: Page, name: str) -> None:
    """Write ``build/screenshots/<name>-<light|dark|phone>.png`` of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    for look, scheme, viewport in LOOKS:
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(viewport)
        await page.screenshot(path=SCREENSHOTS / f"{name}-{look}.png", full_page=True, animations="disabled")
    await page.emulate_media(color_scheme=None)
    if size is not None:
        await page.set_viewport_size(size)


async def assert_accessible(page: Page) -> None:
    """Let axe-core look at the page, light and dark; what it calls serious or critical is a failure."""
    assert await all_barriers(page) == []


async def all_barriers(page: Page) -> list[str]:
    """What axe-core calls serious or critical in light colours, and about colours in the dark, where nothing else differs."""
    await page.emulate_media(color_scheme="dark")
    found = [f"dark: {barrier}" for barrier in await barriers(page, rules=["color-contrast"])]
    await page.emulate_media(color_scheme="light")
    found += await barriers(page)
    await page.emulate_media(color_scheme=None)
    return found


async def barriers(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core calls serious or critical: the rule, and the elements that break it. Without ``rules``, by all of its rules."""
    # Through the DevTools protocol: a script element would rightly be refused by the page's policy.
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe_script().read_text(encoding="utf-8"))
        await page.add_init_script(path=axe_script())  # for the next page in this tab: it is large to send
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    result = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: " + "; ".join(node["html"][:200] for node in rule["nodes"])
        for rule in result["violations"]
        if rule["impact"] in SERIOUS
    ]


async def fits(page: Page) -> bool:
    """Whether the page is no wider than the screen: nobody scrolls sideways to read."""
    script = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    found: bool = await page.evaluate(script)
    return found


async def too_wide(page: Page) -> list[str]:
    """What stands beyond the right edge of the screen."""
    script = """() => [...document.querySelectorAll("body *")]
        .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(each => each.outerHTML.slice(0, 80))"""
    found: list[str] = await page.evaluate(script)
    return found[:3]
