"""A real Chromium for the tests of this folder. Without one, each of them is skipped with the reason, or fails where nothing may be."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.async_api import Browser, Page, Playwright, async_playwright
from sqlalchemy.engine import make_url

from messaging.relay.admin.permissions import Role
from tests.browser.chromium import NO_SKIPS, Chromium, NoChromium, find_chromium
from tests.browser.driving import Watch, new_context, running_browser
from tests.browser.packages import NotFetched, axe_script
from tests.browser.world import OpenPage, PopulatedWorld, SignInAs, World, a_populated_world, an_empty_world
from tests.relays import Relays, TlsFiles
from tests.servers import Postgres


def without_browser(reason: str, environment: Mapping[str, str]) -> NoReturn:
    """Skip, or fail where nothing may be skipped; pytest counts skips of one reason in one line."""
    if any(environment.get(name) for name in NO_SKIPS):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """The Chromium of this machine, or one that was fetched."""
    try:
        axe_script()
        return find_chromium()
    except (NoChromium, NotFetched) as error:
        without_browser(str(error), os.environ)


@pytest.fixture(scope="session")
async def playwright() -> AsyncIterator[Playwright]:
    """Playwright's driver."""
    async with async_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
async def browser(chromium: Chromium, playwright: Playwright) -> AsyncIterator[Browser]:
    """One Chromium for all tests; each test has contexts of its own in it."""
    async with running_browser(playwright, chromium) as started:
        yield started


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Watches the pages of a test, and fails the test for what they must never do."""
    watching = Watch("")
    yield watching
    assert watching.verdict() == []


@pytest.fixture
async def open_page(browser: Browser, watch: Watch) -> AsyncIterator[OpenPage]:
    """Opens pages, each in a browser context of its own, watched from the start. Takes what ``new_context`` takes."""
    contexts = []

    async def opened(**options: object) -> Page:
        context = await new_context(browser, **options)
        contexts.append(context)
        page = await context.new_page()
        watch.follow(page)
        return page

    yield opened
    for context in contexts:
        await context.close()


@pytest.fixture(scope="session")
async def world(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, browser: Browser, tls_files: TlsFiles
) -> AsyncIterator[PopulatedWorld]:
    """A world that tests look at, and do not change but by looking."""
    folder = tmp_path_factory.mktemp("world")
    async with AsyncExitStack() as databases, AsyncExitStack() as running:
        relays = Relays(
            databases, running, folder, sqlite_template, Postgres(make_url("postgresql://")), "", "", tls_files
        )
        async with a_populated_world(folder, sqlite_template, browser, relays) as populated:
            yield populated


@pytest.fixture
async def own_world(
    tmp_path: Path, sqlite_template: Path, browser: Browser, relays: Relays, watch: Watch
) -> AsyncIterator[PopulatedWorld]:
    """A world of the test's own, which it may change."""
    async with a_populated_world(tmp_path, sqlite_template, browser, relays) as populated:
        watch.origin = populated.url
        yield populated


@pytest.fixture
async def empty_world(tmp_path: Path, sqlite_template: Path, browser: Browser, watch: Watch) -> AsyncIterator[World]:
    """A world without an operator."""
    async with an_empty_world(tmp_path, sqlite_template, browser) as empty:
        watch.origin = empty.url
        yield empty


@pytest.fixture
def sign_in_as(open_page: OpenPage, watch: Watch) -> SignInAs:
    """Opens a page of a world for an operator with a role, who is signed in."""

    async def signed_in(world: World, role: Role, path: str = "/", **options: object) -> Page:
        watch.origin = world.url
        page = await open_page(storage_state=await world.cookies_of(role), **options)
        await page.goto(world.url + path)
        return page

    return signed_in
