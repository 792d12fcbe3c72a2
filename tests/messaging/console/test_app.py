"""The console put together: where it listens, what it calls itself, what it refuses to start with."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from messaging.console.app import open_console, origin_of, site_of
from messaging.console.browsers import browser_of
from messaging.console.settings import Settings
from messaging.relay.errors import StartupError
from tests.consoles import FIREFOX, Browser, StartedConsole, start_console
from tests.relays import Relays


async def set_cookie_of(console: StartedConsole, browser: Browser) -> str:
    made = {"code": console.first_code, "name": "Ada", "passkeyName": "a key"}
    options = (await browser.post_json("/enrol/options", made)).json
    answer = await browser.post_json("/enrol/passkey", {**made, "credential": browser.passkey.create(options)})
    return str(answer.headers["Set-Cookie"])


async def test_behind_tls_the_cookie_is_for_this_host_alone_and_browsers_come_back_through_tls(relays: Relays) -> None:
    async with AsyncExitStack() as stack:
        console = await start_console(
            relays, stack, plain_http_behind_a_proxy=True, public_url="https://console.example"
        )
        browser = await console.browser()
        browser.url, browser.origin = f"http://127.0.0.1:{console.running.port}", console.running.url
        said = await set_cookie_of(console, browser)
        assert said.startswith("__Host-subrosa=")
        assert {part.strip() for part in said.split(";")[1:]} == {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"}
        assert "max-age" in (await browser.get("/sign-in", Host="console.example")).headers["Strict-Transport-Security"]


async def test_behind_a_proxy_the_address_counts_that_the_proxy_saw(relays: Relays) -> None:
    async with AsyncExitStack() as stack:
        console = await start_console(relays, stack, plain_http_behind_a_proxy=True)
        browser = await console.browser()
        form = {"code": "x", "second": ""}
        statuses = [
            (await browser.post("/sign-in/recovery", form, **{"X-Forwarded-For": f"6.6.6.{number}, {seen}"})).status
            for seen in ("192.0.2.1", "192.0.2.2")
            for number in range(11)
        ]
        assert statuses == [*[401] * 10, 429] * 2


async def test_behind_a_proxy_that_adds_a_line_of_its_own_the_last_line_counts(relays: Relays) -> None:
    async with AsyncExitStack() as stack:
        console = await start_console(relays, stack, plain_http_behind_a_proxy=True)
        browser, statuses = await console.browser(), []
        for number in range(11):
            headers = CIMultiDict({**browser.ours, "User-Agent": FIREFOX})
            headers.add("X-Forwarded-For", f"6.6.6.{number}")
            headers.add("X-Forwarded-For", "192.0.2.1")
            form = {"code": "x", "second": ""}
            async with browser.http.post(browser.url + "/sign-in/recovery", headers=headers, data=form) as answer:
                statuses.append(answer.status)
        assert statuses == [*[401] * 10, 429]


async def test_without_a_proxy_nobody_says_who_they_are(console: StartedConsole) -> None:
    browser, form = await console.browser(), {"code": "x", "second": ""}
    statuses = [
        (await browser.post("/sign-in/recovery", form, **{"X-Forwarded-For": f"192.0.2.{number}"})).status
        for number in range(11)
    ]
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"host": "0.0.0.0"}, "needs --tls-cert"),  # noqa: S104 - that is what is refused
        ({"host": "0.0.0.0", "plain_http_behind_a_proxy": True}, "needs --public-url"),  # noqa: S104 - as above
        ({"tls_certificate": Path("x")}, "go together"),
        ({"public_url": "http://console.example"}, "must be https"),
        ({"public_url": "https://console.example"}, "where a proxy does TLS"),
        ({"policy": Path("x")}, "belong together"),
        ({"redis_url": "http://x"}, "must be redis://"),
        ({"port": 99999}, "cannot listen"),
        ({"database_url": "sqlite:////nowhere/at/all.db"}, "no such database"),
    ],
)
async def test_what_cannot_work_is_said_at_the_start(relays: Relays, given: dict[str, Any], why: str) -> None:
    relay = await relays.settings("sqlite")
    values = {"port": 0, "database_url": relay.database_url, "secret_file": relay.secret_file, **given}
    with pytest.raises(StartupError, match=why):
        async with open_console(Settings(**values)):
            pass


async def test_a_port_that_is_taken_is_said(console: StartedConsole) -> None:
    with pytest.raises(StartupError, match="cannot listen"):
        async with open_console(
            Settings(
                port=console.running.port,
                database_url=console.settings.database_url,
                secret_file=console.settings.secret_file,
            )
        ):
            pass


def test_a_console_of_this_machine_calls_itself_localhost_because_a_passkey_needs_a_name() -> None:
    site = site_of(Settings(), 8480)
    assert site.origin == "http://localhost:8480"
    assert site.name == "localhost"
    assert not site.is_secure
    assert site.hosts == {"localhost:8480", "127.0.0.1:8480", "[::1]:8480"}
    assert site_of(Settings(), 80).origin == "http://localhost"


def test_with_a_public_url_only_its_pages_change_something() -> None:
    site = site_of(Settings(public_url="https://console.example"), 8480)
    assert site.origins == {"https://console.example"}
    assert "console.example" in site.hosts
    assert site.is_secure


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Console.example/", "https://console.example"),
        ("https://console.example:443", "https://console.example"),
        ("https://console.example:8443", "https://console.example:8443"),
        ("http://localhost:8480", "http://localhost:8480"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    ["", "console.example", "http://console.example", "https://a.example/path", "https://u@a.example", "https://a:x"],
)
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(StartupError):
        origin_of(url)


@pytest.mark.parametrize(
    ("user_agent", "said"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/605.1 Version/18.0 Safari/605.1",
            "Safari on macOS",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8", "A browser"),
    ],
)
def test_of_a_browser_its_family_and_its_system_are_kept(user_agent: str, said: str) -> None:
    assert browser_of(user_agent) == said
