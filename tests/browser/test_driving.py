"""The harness itself: what it has to notice it notices, on a page that does it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page

from tests.browser import driving
from tests.browser.driving import Authenticator, Watch, barriers, fits, take_screenshots
from tests.browser.world import OpenPage

Serve = Callable[..., Awaitable[str]]
GOOD = "<!doctype html><html lang=en><title>A page</title><link rel=icon href=data:,><main><h1>A page</h1></main>"
REGISTER = """async () => {
    const publicKey = {
        challenge: new Uint8Array(32), rp: {name: "here"}, user: {id: new Uint8Array(32), name: "n", displayName: "n"},
        pubKeyCredParams: [{type: "public-key", alg: -7}],
        authenticatorSelection: {residentKey: "required", userVerification: "required"},
    };
    return (await navigator.credentials.create({publicKey})).type;
}"""
SIGN = """async () => (await navigator.credentials.get(
    {publicKey: {challenge: new Uint8Array(32), userVerification: "required", timeout: 2000}})).id"""


@pytest.fixture
async def serve(watch: Watch) -> AsyncIterator[Serve]:
    """Serves one page; returns its address."""
    async with AsyncExitStack() as stack:

        async def served(text: str, **headers: str) -> str:
            async def answer(request: web.Request) -> web.Response:
                if request.path != "/":
                    raise web.HTTPForbidden
                return web.Response(text=text, content_type="text/html", headers=headers)

            application = web.Application()
            application.router.add_get("/{any:.*}", answer)
            runner = web.AppRunner(application)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            watch.origin = f"http://localhost:{runner.addresses[0][1]}"
            return watch.origin

        yield served


def taken(watch: Watch) -> list[str]:
    """The faults so far, which then do not fail the test."""
    found = watch.verdict()
    watch.faults.clear()
    return found


async def test_a_good_page_has_no_faults(serve: Serve, open_page: OpenPage, watch: Watch) -> None:
    page = await open_page()
    await page.goto(await serve(GOOD))
    assert await barriers(page) == []
    assert await fits(page)


@pytest.mark.parametrize(
    ("page_text", "fault"),
    [
        (GOOD + "<script>console.error('oh')</script>", "an error in the console: oh"),
        (GOOD + "<script>throw new Error('oh')</script>", "a script failed: oh"),
        (GOOD + "<img alt=x src=http://127.0.0.2:9/x.png>", "a request to somebody else: http://127.0.0.2:9/x.png"),
        (GOOD + "<img alt=x src=/missing.png>", "status of 403"),
    ],
)
async def test_faults_are_noticed(serve: Serve, open_page: OpenPage, watch: Watch, page_text: str, fault: str) -> None:
    page = await open_page()
    await page.goto(await serve(page_text))
    assert any(fault in each for each in taken(watch))


async def test_a_breach_of_the_policy_is_noticed(serve: Serve, open_page: OpenPage, watch: Watch) -> None:
    page = await open_page()
    policy = {"Content-Security-Policy": "default-src 'none'"}
    await page.goto(await serve(GOOD + "<script>document.title = 'run'</script>", **policy))
    assert "Content Security Policy" in "".join(taken(watch))
    assert await page.title() == "A page"
    assert await barriers(page) == []  # the policy does not stop axe


async def test_what_a_test_expects_is_no_fault(serve: Serve, open_page: OpenPage, watch: Watch) -> None:
    watch.expected.append("status of 403")
    page = await open_page()
    await page.goto(await serve(GOOD + "<img alt=x src=/missing.png>"))
    assert taken(watch) == []


async def test_a_barrier_is_noticed(serve: Serve, open_page: OpenPage) -> None:
    page = await open_page()
    await page.goto(await serve(GOOD + "<img src=data:image/gif;base64,R0lGODlhAQABAAAAACw=>"))
    assert [each.partition(" ")[0] for each in await barriers(page)] == ["image-alt"]


async def test_what_is_too_wide_is_noticed(serve: Serve, open_page: OpenPage) -> None:
    page = await open_page(viewport=driving.PHONE)
    head = "<meta name=viewport content='width=device-width'>"
    await page.goto(await serve(GOOD + head + "<p style='width: 1000px'>wide"))
    assert not await fits(page)


async def test_an_authenticator_makes_a_passkey_and_signs_with_it_on_another_page(
    serve: Serve, open_page: OpenPage
) -> None:
    address = await serve(GOOD)
    first, second = await open_page(), await open_page()
    for page in (first, second):
        await page.goto(address)
    made = await Authenticator.plug_in(first)
    assert await first.evaluate(REGISTER) == "public-key"
    await Authenticator.plug_in(second, await made.credentials())
    assert await second.evaluate(SIGN) == await first.evaluate(SIGN)


async def test_an_authenticator_that_does_not_know_its_user_signs_nothing(serve: Serve, open_page: OpenPage) -> None:
    page = await open_page()
    await page.goto(await serve(GOOD))
    authenticator = await Authenticator.plug_in(page)
    await page.evaluate(REGISTER)
    await authenticator.verify_user(False)
    assert await page.evaluate(f"({SIGN})().catch(error => error.name)") == "NotAllowedError"


async def test_screenshots_are_of_three_kinds(
    serve: Serve, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driving, "SCREENSHOTS", tmp_path)
    page = await open_page()
    await page.goto(await serve("<style>:root {color-scheme: light dark}</style>" + GOOD))
    await take_screenshots(page, "a")
    pictures = _files(tmp_path)
    assert sorted(pictures) == ["a-dark.png", "a-light.png", "a-phone.png"]
    assert len(set(pictures.values())) == 3
    assert await _size(page) == driving.DESK


def _files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


async def _size(page: Page) -> object:
    return await page.evaluate("({width: innerWidth, height: innerHeight})")
