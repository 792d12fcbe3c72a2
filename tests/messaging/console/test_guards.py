"""What stands before every request: hosts, origins, sign-ins; and the headers of every answer."""

import asyncio
import re

import pytest

from messaging.console.app import application
from messaging.console.guards import OPEN, SAFE_METHODS, WrongOrigin, check_origin
from messaging.console.live import Live
from messaging.console.parts import Console, Site
from messaging.relay.admin.desk import Desk
from messaging.relay.admin.limits import MAX_BODY
from messaging.relay.admin.permissions import Role
from messaging.relay.delivery.wakeups import LocalWakeups
from tests.consoles import StartedConsole

SITE = Site("https://console.example", frozenset({"console.example"}), frozenset({"https://console.example"}))


def routes_of(started: StartedConsole) -> list[tuple[str, str]]:
    """Every route of a console: its method and its path, with something in the place of each name."""
    desk = Desk(started.database, started.settings.database_url, LocalWakeups(), started.secret, None, started.clock)  # type: ignore[arg-type]
    console = Console(started.settings, SITE, desk, started.door, Live(started.database, started.clock))
    found = []
    for route in application(console).router.routes():
        resource = route.resource
        assert resource is not None
        found.append((route.method, re.sub(r"\{\w+\}", "x", resource.canonical)))
    return found


def is_open(path: str) -> bool:
    return path in {re.sub(r"\{\w+\}", "x", route) for route in OPEN}


async def test_what_is_not_listed_as_open_is_open_to_nobody(console: StartedConsole) -> None:
    browser = await console.browser()
    for method, path in routes_of(console):
        answer = await browser.send(method, path, headers=browser.ours if method == "POST" else {})
        if is_open(path):
            assert answer.headers.get("Location") != "/sign-in", path
        elif path.startswith("/api/"):
            assert (answer.status, answer.text if method == "HEAD" else answer.json["code"]) in (
                (401, "not_signed_in"),
                (401, ""),
            ), path
        else:
            assert (answer.status, answer.headers.get("Location")) == (303, "/sign-in"), path


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_another_page_changes_nothing_by_any_route(console: StartedConsole, said: dict[str, str]) -> None:
    browser = await console.owner()
    unsafe = [(method, path) for method, path in routes_of(console) if method not in SAFE_METHODS]
    assert len(unsafe) > 15
    for method, path in unsafe:
        answer = await browser.send(method, path, headers={**said, "Accept": "application/json"})
        assert (answer.status, answer.json["code"]) == (403, "wrong_origin"), path


@pytest.mark.parametrize(
    ("fetch_site", "origin"),
    [
        ("same-origin", "https://console.example"),
        ("same-origin", "null"),  # a form of a page without referrer
        ("same-origin", None),
        (None, "https://console.example"),
    ],
)
def test_our_own_pages_may(fetch_site: str | None, origin: str | None) -> None:
    check_origin(fetch_site, origin, SITE)


@pytest.mark.parametrize(
    "origin", ["http://console.example", "https://console.example:444", "https://CONSOLE.example.evil"]
)
def test_an_origin_is_ours_whole_or_not_at_all(origin: str) -> None:
    with pytest.raises(WrongOrigin):
        check_origin(None, origin, SITE)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "localhost:1", "localhost.evil.example", "", "localhost:"]
)
async def test_another_host_is_not_answered(console: StartedConsole, host: str) -> None:
    answer = await (await console.browser()).get("/sign-in", Host=host)
    assert answer.status in (400, 421)
    assert "sign-in" not in answer.text


async def test_who_came_by_a_name_that_passkeys_are_not_bound_to_is_sent_to_ours(console: StartedConsole) -> None:
    answer = await (await console.browser()).get("/sign-in", Host=f"127.0.0.1:{console.running.port}")
    assert answer.headers["Location"] == f"{console.running.url}/sign-in"


@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/account", "/api/v1/nowhere", "/health", "/assets/x/y"])
async def test_every_answer_has_the_headers(console: StartedConsole, path: str) -> None:
    answer = await (await console.browser()).get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "subrosa"


async def test_a_body_above_the_bound_is_not_read(console: StartedConsole) -> None:
    browser = await console.browser()
    for size, status in ((MAX_BODY, 422), (MAX_BODY + 1, 413)):
        headers = {**browser.ours, "Content-Type": "application/json"}
        answer = await browser.send(
            "POST", "/sign-in/options" if size > MAX_BODY else "/enrol/options", headers=headers, data=b"{" * size
        )
        assert answer.status == status


async def test_a_body_of_another_kind_is_not_read(console: StartedConsole) -> None:
    browser = await console.browser()
    headers = {**browser.ours, "Content-Type": "multipart/form-data; boundary=x"}
    assert (await browser.send("POST", "/sign-in/recovery", headers=headers, data=b"--x--")).status == 415


async def test_what_is_not_http_is_not_repeated(console: StartedConsole) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", console.running.port)
    writer.write(b"GET /canary<script> nothing\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"400" in answer.partition(b"\r\n")[0]
    assert b"canary" not in answer


async def test_a_token_is_good_for_the_api_alone_and_a_wrong_one_for_nothing(console: StartedConsole) -> None:
    owner, program = await console.owner(), await console.browser()
    made = await owner.post("/actions/tokens.make", {"name": "t", "permissions": "health.see", "days": "1"})
    token = re.search(r"srt_[\w-]{43}", made.text)
    assert token is not None
    assert (await program.get("/api/v1/me", Authorization=f"Bearer {token[0]}")).json == {
        "name": "Ada",
        "permissions": ["health.see"],
    }
    assert (await program.get("/account", Authorization=f"Bearer {token[0]}")).status == 303
    assert (await program.get("/api/v1/me", Authorization=f"Bearer {token[0]}x")).status == 401
    assert (await owner.get("/api/v1/me", Authorization="Bearer x")).status == 401  # its cookie does not help it


async def test_a_role_that_is_taken_away_is_taken_from_tokens_too(console: StartedConsole) -> None:
    owner, grace = await console.owner(), await console.operator(Role.OWNER, "Grace")
    made = await grace.post("/actions/tokens.make", {"name": "t", "permissions": "operators.manage", "days": "1"})
    token = re.search(r"srt_[\w-]{43}", made.text)
    assert token is not None
    change = {"operatorId": "2", "role": "viewer", "reason": "left the team", "step": "do"}
    assert (await owner.post("/actions/operators.change_role", change)).status == 200
    answer = await (await console.browser()).get("/api/v1/me", Authorization=f"Bearer {token[0]}")
    assert answer.json["permissions"] == []
    assert (await grace.get("/account")).status == 303  # and signed out


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("same-site", "no-cors", "image", 403),
        ("cross-site", "cors", "empty", 403),
        ("same-site", "navigate", "iframe", 403),
        ("same-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ],
)
async def test_another_page_reads_nothing_in_an_operators_name(
    console: StartedConsole, site: str, mode: str, dest: str, status: int
) -> None:
    owner = await console.owner()
    said = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    for path in ("/views/accounts.search.json", "/account", "/api/v1/me"):
        assert (await owner.get(path, **said)).status == status, path


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "nonsense", "latin-1"])
async def test_a_form_in_other_letters_is_not_read(console: StartedConsole, charset: str) -> None:
    browser = await console.browser()
    kind = f"application/x-www-form-urlencoded; charset={charset}"
    answer = await browser.send(
        "POST", "/sign-in/recovery", headers={**browser.ours, "Content-Type": kind}, data=b"code=x&second="
    )
    assert answer.status == 415


async def test_a_form_that_is_no_text_is_refused(console: StartedConsole) -> None:
    browser = await console.browser()
    headers = {**browser.ours, "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    for data, status in ((b"code=\xff&second=", 422), ("code=\xe9&second=".encode(), 401)):
        assert (await browser.send("POST", "/sign-in/recovery", headers=headers, data=data)).status == status


async def raw_status(console: StartedConsole, *lines: bytes) -> int:
    """What is answered to ``GET /api/v1/me`` with these lines of a header, which no client of HTTP would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", console.running.port)
    host = f"Host: localhost:{console.running.port}".encode()
    writer.write(b"\r\n".join([b"GET /api/v1/me HTTP/1.1", host, b"Connection: close", *lines, b"", b""]))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "line",
    [b"Cookie: subrosa=\xff\xfe", b"Cookie: subrosa=\xc3\xa9", b"Authorization: Bearer \xff", b"Authorization: \xe9 x"],
)
async def test_who_shows_bytes_that_are_no_letters_is_nobody(console: StartedConsole, line: bytes) -> None:
    assert await raw_status(console, line) == 401


async def test_a_script_of_a_page_is_told_in_the_language_of_the_page_and_a_program_in_english(
    console: StartedConsole,
) -> None:
    browser, french = await console.browser(), {"Accept-Language": "fr"}
    page = await browser.send("POST", "/enrol/options", headers={**browser.ours, **french}, json={"code": "x"})
    assert page.json["message"].startswith("Ce lien")
    program = await browser.get("/api/v1/me", **french)
    assert program.json["message"] == "Sign in first."


async def test_a_program_does_not_choose_what_the_log_says_of_its_way(console: StartedConsole) -> None:
    owner, program = await console.owner(), await console.browser()
    made = await owner.post("/actions/tokens.make", {"name": "t", "permissions": "operators.manage", "days": "1"})
    token = re.search(r"srt_[\w-]{43}", made.text)
    assert token is not None
    headers = {"Authorization": f"Bearer {token[0]}", "User-Agent": "subrosa-admin/1"}
    body = {"parameters": {"role": "viewer"}, "reason": "r"}
    assert (await program.send("POST", "/api/v1/actions/operators.invite", headers=headers, json=body)).status == 403
    (entry,) = (await owner.get("/api/v1/views/audit.list?limit=1")).json["entries"]
    assert (entry["action"], entry["via"]) == ("operators.invite", "api")
