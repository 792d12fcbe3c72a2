"""Signing in through a company's provider: a real one over HTTP, made of aiohttp and joserfc."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from sqlalchemy.engine import make_url
from yarl import URL

from messaging.console.oidc import Flow, is_trusted_address, read_oidc
from messaging.relay.admin.desk import Desk, act
from messaging.relay.admin.door import NotRight, operator_of
from messaging.relay.admin.limits import SIGN_IN_TRIES
from messaging.relay.admin.operators_domain import CompanyAccount
from messaging.relay.admin.registry import ACTIONS
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.errors import StartupError
from tests.authenticators import letters
from tests.consoles import Answer, Browser, StartedConsole, start_console
from tests.relays import Relays


@dataclass
class Company:
    """A provider that says what a test has it say."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    published: RSAKey | None = None  # another one than it signs with
    claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    algorithm: str = "RS256"
    asked: dict[str, str] = field(default_factory=dict)
    now: Callable[[], int] = lambda: 0
    fetched: int = 0

    def visit(self, address: str) -> None:
        """What somebody does there: sign in."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}

    async def document(self, _: web.Request) -> web.Response:
        ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return web.json_response({"issuer": self.url, **{name: self.url + path for name, path in ends.items()}})

    async def keys(self, _: web.Request) -> web.Response:
        self.fetched += 1
        return web.json_response(KeySet([self.published or self.key]).as_dict(private=False))

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        verifier = str(form["code_verifier"]).encode()
        challenged = letters(sha256(verifier).digest()) == self.asked.get("code_challenge")
        if form["code"] != "good" or form["client_secret"] != "its secret" or not challenged:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = self.now() // 1000
        claims = {
            "iss": self.url,
            "aud": "console",
            "sub": "s-1",
            "exp": now + 60,
            "iat": now,
            "nonce": self.asked["nonce"],
        }
        header = {"alg": self.algorithm, "kid": self.key.kid}
        return web.json_response({"id_token": jwt.encode(header, self.claims(claims), self.key)})


@pytest.fixture
async def company() -> AsyncIterator[Company]:
    """A provider on a free port."""
    made = Company()
    app = web.Application()
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", made.document),
            web.get("/keys", made.keys),
            web.post("/token", made.token),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def console(relays: Relays, company: Company, tmp_path: Path) -> AsyncIterator[StartedConsole]:
    """A console of that company."""
    (tmp_path / "secret").write_text("its secret\n")
    file = tmp_path / "oidc.toml"
    file.write_text(f'issuer = "{company.url}"\nclient_id = "console"\nclient_secret_file = "secret"\n')
    async with AsyncExitStack() as stack:
        started = await start_console(relays, stack, oidc=file)
        company.now = started.clock
        yield started


async def bound(console: StartedConsole, company: Company) -> Browser:
    """The owner's browser; the owner is who the company calls ``s-1``."""
    browser = await console.owner()
    assert browser.cookie is not None
    owner = operator_of(*await console.door.who(browser.cookie.value), console.clock())
    desk = _desk(console)
    account = CompanyAccount(operator_id=owner.id, issuer=company.url, subject="s-1")
    await act(desk, ACTIONS["operators.bind_oidc"], owner, account, reason="a test")
    return browser


def _desk(console: StartedConsole) -> Desk:
    return Desk(console.database, make_url("sqlite://"), LocalWakeups(), console.secret, None, console.clock)


async def come_back(browser: Browser, company: Company, *, code: str = "good", state: str | None = None) -> Answer:
    begun = await browser.post("/oidc/begin")
    assert begun.status == 303
    company.visit(begun.headers["Location"])
    return await browser.get(f"/oidc/return?code={code}&state={company.asked['state'] if state is None else state}")


async def test_who_is_bound_is_signed_in(console: StartedConsole, company: Company) -> None:
    await bound(console, company)
    other = await console.browser()
    assert (await come_back(other, company)).status == 200
    assert "Ada" in (await other.get("/account")).text
    assert company.asked["redirect_uri"] == f"{console.running.url}/oidc/return"
    assert company.asked["code_challenge_method"] == "S256"


async def test_who_is_not_bound_is_nobody_here(console: StartedConsole, company: Company) -> None:
    await console.owner()
    other = await console.browser()
    assert (await come_back(other, company)).status == 401
    assert (await other.get("/account")).status == 303


async def test_an_operator_binds_their_own_account(console: StartedConsole, company: Company) -> None:
    ada, other = await console.owner(), await console.browser()
    begun = await ada.post("/account/company")
    company.visit(begun.headers["Location"])
    assert (await ada.get(f"/oidc/return?code=good&state={company.asked['state']}")).status == 200
    assert (await come_back(other, company)).status == 200
    assert (await ada.post("/account/company/remove")).status == 303
    assert (await come_back(await console.browser(), company)).status == 401


async def test_a_state_that_this_browser_has_not_begun_with_is_refused(
    console: StartedConsole, company: Company
) -> None:
    await bound(console, company)
    victim, eve = await console.browser(), await console.browser()
    company.visit((await eve.post("/oidc/begin")).headers["Location"])
    assert (await victim.get(f"/oidc/return?code=good&state={company.asked['state']}")).status == 401
    assert (await come_back(await console.browser(), company, state="x")).status == 401


async def test_a_page_that_has_browsers_ask_for_the_return_locks_nobody_out(
    console: StartedConsole, company: Company
) -> None:
    ada = await bound(console, company)
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    for _ in range(SIGN_IN_TRIES + 1):
        assert (await (await console.browser()).get("/oidc/return?code=good&state=%FF", **image)).status == 401
    assert (await ada.sign_in()).status == 200


async def test_a_return_is_good_once(console: StartedConsole, company: Company) -> None:
    await bound(console, company)
    browser = await console.browser()
    begun = await browser.post("/oidc/begin")
    company.visit(begun.headers["Location"])
    kept = cookie_of_the_flow(browser)
    path = f"/oidc/return?code=good&state={company.asked['state']}"
    assert (await browser.get(path)).status == 200
    again = await (await console.browser()).get(path, Cookie=f"subrosa-company={kept}", Accept="application/json")
    assert again.json["code"] == "challenge_gone"


def cookie_of_the_flow(browser: Browser) -> str:
    return browser.http.cookie_jar.filter_cookies(URL(browser.url))["subrosa-company"].value


async def test_a_cookie_for_signing_in_binds_nobody(console: StartedConsole, company: Company) -> None:
    await console.owner()
    browser = await console.browser()
    begun = await browser.post("/oidc/begin")
    company.visit(begun.headers["Location"])
    kept = cookie_of_the_flow(browser)
    path = f"/oidc/return?code=good&state={company.asked['state']}"
    answer = await (await console.browser()).get(path, Cookie=f"subrosa-company={kept}1", Accept="application/json")
    assert answer.json["code"] == "challenge_gone"


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://other.example"},
        {"aud": "another client"},
        {"aud": ["console", "another"]},
        {"nonce": "x"},
        {"exp": 1},
        {"exp": None},
        {"iat": 2**40},
        {"sub": ""},
        {"sub": None},
    ],
)
async def test_a_token_that_is_not_for_this_is_refused(
    console: StartedConsole, company: Company, wrong: dict[str, Any]
) -> None:
    await bound(console, company)
    company.claims = lambda claims: {**claims, **wrong}
    browser = await console.browser()
    assert (await come_back(browser, company)).status == 401
    assert (await browser.get("/account")).status == 303


async def test_a_token_under_another_key_is_refused(console: StartedConsole, company: Company) -> None:
    await bound(console, company)
    company.published = RSAKey.generate_key(2048, {"kid": "one"})
    assert (await come_back(await console.browser(), company)).status == 401


async def test_a_key_that_is_new_is_fetched(console: StartedConsole, company: Company) -> None:
    await bound(console, company)
    assert (await come_back(await console.browser(), company)).status == 200
    company.key = RSAKey.generate_key(2048, {"kid": "two"})
    assert (await come_back(await console.browser(), company)).status == 200
    assert (await come_back(await console.browser(), company)).status == 200
    assert company.fetched == 2


async def test_a_code_that_the_provider_does_not_know_is_refused(console: StartedConsole, company: Company) -> None:
    await bound(console, company)
    assert (await come_back(await console.browser(), company, code="bad")).status == 401


async def test_where_the_provider_is_away_a_passkey_is_the_way(console: StartedConsole, company: Company) -> None:
    ada = await bound(console, company)
    company.url = "http://127.0.0.1:9"  # what it says of itself does not fit
    answer = await ada.send("POST", "/oidc/begin", headers={**ada.ours, "Accept": "application/json"})
    assert (answer.status, answer.json["code"]) == (502, "provider_away")
    assert (await ada.sign_in()).status == 200


def test_what_a_flow_tells_the_provider_does_not_tell_its_seed() -> None:
    flow = Flow(bytes(range(32)))
    told = {flow.state, flow.nonce, flow.verifier, flow.challenge, flow.cookie.rstrip(".")}
    assert len(told) == 5
    assert Flow.of_cookie(flow.cookie) == flow
    assert Flow.of_cookie(Flow(flow.seed, 7).cookie).operator_id == 7


@pytest.mark.parametrize("text", ["", ".", "x.1", "A" * 42 + ".1", "A" * 43 + ".x", "*" * 43 + "."])
def test_a_cookie_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NotRight):
        Flow.of_cookie(text)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://company.example", True),
        ("http://company.example", False),
        ("http://127.0.0.1:5", True),
        ("http://localhost.company.example", False),
        ("file:///etc/passwd", False),
        ("http://[", False),
    ],
)
def test_a_provider_is_reached_through_tls(*, url: str, trusted: bool) -> None:
    assert is_trusted_address(url) is trusted


@pytest.mark.parametrize(
    "said", ["", "issuer = 1", 'issuer = "http://company.example"\nclient_id = "c"\nclient_secret_file = "secret"']
)
def test_a_file_that_says_too_little_is_refused(tmp_path: Path, said: str) -> None:
    (tmp_path / "secret").write_text(json.dumps("s"))
    (tmp_path / "oidc.toml").write_text(said)
    with pytest.raises(StartupError):
        read_oidc(tmp_path / "oidc.toml")
    with pytest.raises(StartupError):
        read_oidc(tmp_path / "none.toml")
