"""What operators do, from the page to the database: with a dry run, a reason, a second operator where one is needed, and an entry for good."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from messaging.relay.admin.audit import Outcome
from messaging.relay.admin.desk import account_subject
from messaging.relay.admin.permissions import Role
from messaging.relay.nodes import delete_nodes
from tests.browser.driving import assert_accessible, take_screenshots
from tests.browser.world import PopulatedWorld, SignInAs, name_of
from tests.devices import Device
from tests.messaging.relay.admin.town import CONTENT
from tests.relays import Relays

_SOME = re.compile("[1-9]")
SECONDS = 20_000  # milliseconds, for what a relay says of itself every five seconds


async def find(page: Page, world: PopulatedWorld, aci: UUID) -> None:
    """Look an account up by its id."""
    await page.goto(f"{world.url}/views/accounts.search")
    await page.get_by_label("Account", exact=True).fill(str(aci))
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.get_by_role("row")).to_have_count(2)  # the head, and one


async def state_of(page: Page, world: PopulatedWorld, aci: UUID) -> str:
    """What the account's own page says of it."""
    await page.goto(f"{world.url}/views/accounts.show?aci={aci}")
    return await page.locator(".pill").first.inner_text()


async def test_an_account_is_suspended_after_a_dry_run_for_a_reason(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    device = await own_world.peer.register()
    other = await own_world.peer.register()
    assert (await device.send(other, b"before")).status == 200
    page = await sign_in_as(own_world, Role.MODERATOR)
    await find(page, own_world, device.aci.uuid)
    await page.locator("main").get_by_role("button", name="Suspend", exact=True).click()
    await expect(page.get_by_role("heading", name="What this will touch")).to_be_visible()
    await expect(page.locator(".effects")).to_contain_text("1 accounts")
    await assert_accessible(page)
    assert (await device.send(other, b"tried")).status == 200  # nothing has happened yet
    do = page.locator("button[value=do]")
    await do.click()
    await expect(page.get_by_role("heading", name="What this will touch")).to_be_visible()  # it wants a reason
    await page.get_by_label("Why").fill("Ticket 4711")
    await do.click()
    await expect(page.get_by_text("It stands in the audit log.")).to_be_visible()
    assert (await device.send(other, b"after")).status == 403
    done, tried = [entry.said for entry in await own_world.audit("accounts.suspend")]
    assert (done.outcome, done.reason, done.operator) == (Outcome.DONE, "Ticket 4711", name_of(Role.MODERATOR))
    assert done.subject == account_subject(device.aci.uuid)
    assert tried.outcome is Outcome.TRIED
    assert "suspended" in await state_of(page, own_world, device.aci.uuid)


async def test_somebody_without_a_mouse_finds_an_account_and_suspends_it(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    aci = own_world.town.people[1].aci
    page = await sign_in_as(own_world, Role.MODERATOR)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await tab_to(page, "Accounts")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Accounts")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # skips the navigation
    await tab_to(page, "Account")
    await page.keyboard.type(str(aci))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row")).to_have_count(2)
    await tab_to(page, "Suspend")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Why")).to_be_focused()
    await page.keyboard.type("Ticket 12")
    await tab_to(page, await page.locator("button[value=do]").inner_text())
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("It stands in the audit log.")).to_be_visible()
    [done, *_] = await own_world.audit("accounts.suspend")
    assert (done.said.outcome, done.said.subject) == (Outcome.DONE, account_subject(aci))


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is called ``name`` has the focus, which can be seen."""
    script = """() => {
        const it = document.activeElement, look = getComputedStyle(it);
        const seen = look.outlineStyle !== "none" || look.boxShadow !== "none" || it === document.body;
        return [it === document.body ? "" : (it.labels?.[0] ?? it).innerText.trim(), seen];
    }"""
    for _ in range(80):
        await page.keyboard.press("Tab")
        found, seen = await page.evaluate(script)
        assert seen, f"nobody sees that {found!r} has the focus"
        if found == name:
            return
    raise AssertionError(f"no way by Tab to {name!r}")


async def test_two_operators_delete_an_account_and_neither_does_it_alone(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    aci = own_world.town.people[2].aci
    owner, second = await sign_in_as(own_world, Role.OWNER), await sign_in_as(own_world, Role.SECURITY)
    await owner.goto(f"{own_world.url}/actions/approvals.require?actions=accounts.delete&version=0")
    await confirm(owner, "So the board decided")
    await owner.goto(f"{own_world.url}/actions/accounts.delete?aci={aci}")
    await confirm(owner, "Asked for by a court")
    await expect(owner.get_by_role("heading", name="Waiting for a second operator")).to_be_visible()
    await assert_accessible(owner)
    await owner.goto(f"{own_world.url}/approvals")
    mine = owner.get_by_role("article").filter(has_text=str(aci)).filter(has_text="Asked for by a court")
    await expect(mine).to_contain_text("waits for somebody else")
    await expect(mine.get_by_role("button")).to_have_count(0)
    assert "active" in await state_of(second, own_world, aci)
    await second.goto(f"{own_world.url}/approvals")
    waiting = second.get_by_role("article").filter(has_text="Asked for by a court")
    await expect(waiting).to_contain_text(name_of(Role.OWNER))
    await assert_accessible(second)
    await waiting.get_by_role("button", name="Approve and do it").click()
    await expect(second.get_by_text("It stands in the audit log.")).to_be_visible()
    [approved, *_] = await own_world.audit("accounts.delete")
    assert (approved.said.outcome, approved.said.operator) == (Outcome.APPROVED, name_of(Role.SECURITY))
    await second.goto(f"{own_world.url}/views/accounts.search")
    await expect(second.locator("main")).not_to_contain_text(str(aci))


async def test_a_proposal_that_is_rejected_is_not_done(own_world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    aci = own_world.town.people[2].aci
    owner, second = await sign_in_as(own_world, Role.OWNER), await sign_in_as(own_world, Role.SECURITY)
    await owner.goto(f"{own_world.url}/actions/approvals.require?actions=accounts.delete&version=0")
    await confirm(owner, "So the board decided")
    await owner.goto(f"{own_world.url}/actions/accounts.delete?aci={aci}")
    await confirm(owner, "By mistake")
    await second.goto(f"{own_world.url}/approvals")
    waiting = second.get_by_role("article").filter(has_text="By mistake")
    await waiting.get_by_role("button", name="Reject").click()
    await expect(waiting).to_have_count(0)
    assert "active" in await state_of(second, own_world, aci)


async def confirm(page: Page, reason: str) -> None:
    """From the form of a dangerous action through its dry run."""
    await page.get_by_role("button", name="See what it would touch").click()
    await page.get_by_label("Why").fill(reason)
    await page.locator("button[value=do]").click()


async def test_what_is_shown_once_is_shown_once(own_world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(own_world, Role.SUPPORT, "/actions/invites.make")
    await page.get_by_role("button", name="Make an invite").click()
    code = await page.locator("output").first.inner_text()
    await assert_accessible(page)
    assert len(code) >= 16
    await page.goto(f"{own_world.url}/views/invites.list")
    await expect(page.get_by_role("row")).to_have_count(len(own_world.town.invites) + 2)
    assert code not in await page.content()
    assert code not in str([entry.as_json() for entry in await own_world.audit("invites.make")])


async def test_the_data_report_says_what_there_is_and_what_there_is_not(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    person = own_world.town.people[0]
    page = await sign_in_as(own_world, Role.SECURITY)
    await find(page, own_world, person.aci)
    await page.locator("main").get_by_role("link", name="Data report").first.click()
    report = page.locator(".report")
    await expect(report).to_contain_text(str(person.aci))
    await expect(report).to_contain_text("What the server does not hold, and cannot give")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="JSON").click()
    saved = Path(await (await downloading.value).path())
    kept = json.loads(_read(saved))
    assert kept["aci"] == str(person.aci)
    assert {part["table"] for part in kept["held"]} >= {"accounts", "devices", "envelopes"}
    assert CONTENT.decode() not in str(kept)
    assert person.number is not None
    assert person.number not in str(kept)
    assert person.number not in await page.content()
    [read, *_] = await own_world.audit("accounts.report")
    assert (read.said.outcome, read.said.subject) == (Outcome.READ, account_subject(person.aci))
    await page.emulate_media(media="print")
    await expect(page.locator("nav#menu")).to_be_hidden()
    await expect(report).to_be_visible()


def _read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays say how they are, and consoles and pages ask for it, every quarter of a second instead of every five seconds."""
    monkeypatch.setattr("messaging.relay.nodes.BEAT_SECONDS", 0.25)
    monkeypatch.setattr("messaging.relay.nodes.JITTER_SECONDS", 0)
    monkeypatch.setattr("messaging.console.live.READ_SECONDS", 0.25)


@pytest.mark.usefixtures("quick")
async def test_charts_move_while_people_write(own_world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    first, second = await own_world.peer.register(), await own_world.peer.register()
    page = await sign_in_as(own_world, Role.VIEWER)
    async with traffic(first, second):
        for name in ("stored", "delivered"):
            await expect(page.locator(f"[data-now={name}]")).to_have_text(_SOME, timeout=SECONDS)
        await expect(page.locator("[data-now=sockets]")).to_have_text(_SOME, timeout=SECONDS)
        await expect(page.locator("[data-chart=traffic] canvas")).to_be_visible()
        drawn = await page.locator("[data-chart=traffic] canvas").evaluate("canvas => canvas.toDataURL()")
        changed = "([chart, before]) => document.querySelector(chart).toDataURL() !== before"
        await page.wait_for_function(changed, arg=["[data-chart=traffic] canvas", drawn], timeout=SECONDS)
        await take_screenshots(page, "overview-with-traffic")
    await page.locator("[data-chart=traffic] summary").click()
    assert await page.locator("[data-chart=traffic] tbody tr").count() >= 2
    await assert_accessible(page)


@asynccontextmanager
async def traffic(first: Device, second: Device) -> AsyncIterator[None]:
    """One writes and the other one gets it, while the block lasts."""

    async def write() -> None:
        while True:
            assert (await first.send(second, b"x")).status == 200
            await asyncio.sleep(0.3)  # the town allows a hundred at once, and then one every two seconds

    async def read() -> None:
        async with second.socket() as socket:
            while True:
                request = await socket.request()
                await socket.answer(request)

    tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


@pytest.mark.usefixtures("quick")
async def test_a_node_drains_and_says_so(own_world: PopulatedWorld, sign_in_as: SignInAs, relays: Relays) -> None:
    async with own_world.database.begin() as db:
        await delete_nodes(db, before=2**62)  # the town's are not really there
    other = await relays.serve(own_world.relay.settings)
    page = await sign_in_as(own_world, Role.SECURITY, "/views/nodes.list")
    ready = page.get_by_role("row").filter(has_text="ready")
    async with asyncio.timeout(SECONDS / 1000):
        while await ready.count() < 2:
            await page.reload()
    await ready.first.get_by_role("link", name="Drain", exact=True).click()
    await confirm(page, "A new version")
    await expect(page.get_by_text("It stands in the audit log.")).to_be_visible()
    drains = [asyncio.create_task(relay.running.drains.wait()) for relay in (own_world.relay, other)]
    done, waiting = await asyncio.wait(drains, timeout=SECONDS / 1000, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 1)  # one of them ends, and the other one serves
    for task in waiting:
        task.cancel()
