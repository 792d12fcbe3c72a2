"""Every page, for every role: it opens without a fault, nothing is in the way of whoever uses it, and it shows what the role permits."""

from urllib.parse import urlencode

import pytest
from playwright.async_api import APIResponse, Page, expect

from messaging.console.forms import SENSITIVE, fields_of
from messaging.console.page_map import domain_of
from messaging.relay.admin.desk import View
from messaging.relay.admin.errors import NotPermitted
from messaging.relay.admin.permissions import GRANTED, Permission, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from tests.browser.driving import (
    DESK,
    PHONE,
    Watch,
    all_barriers,
    assert_accessible,
    fits,
    take_screenshots,
    too_wide,
)
from tests.browser.world import PopulatedWorld, SignInAs
from tests.messaging.relay.admin.examples import example_of
from tests.messaging.relay.admin.town import CONTENT

OURS = {"Sec-Fetch-Site": "same-origin"}  # as a browser says of a page's own request
PLAIN_PAGES = ["/account", "/approvals", "/account/totp"]


def forms(role: Role) -> list[str]:
    """The forms of all actions that a role may do."""
    return [f"/actions/{action.name}" for action in ACTIONS.values() if action.permission in GRANTED[role]]


def kinds_of_forms() -> list[str]:
    """All forms are made by one template: one form for each set of kinds of fields."""
    found = {frozenset(field.kind for field in fields_of(action.takes)): action.name for action in ACTIONS.values()}
    return [f"/actions/{name}" for name in found.values()]


def pages(world: PopulatedWorld, role: Role) -> list[str]:
    """The pages that a role may see, with something to show, but for the forms of actions."""
    views = [view_path(world, view) for view in VIEWS.values() if view.permission in GRANTED[role]]
    return ["/", *PLAIN_PAGES, *views]


def view_path(world: PopulatedWorld, view: "View") -> str:  # type: ignore[type-arg]
    """The address of a view of something that is there; without what must not stand in one."""
    seeds = (example_of(view.name, view.takes, world.town, seed=seed) for seed in range(20))
    parameters = next(each for each in seeds if not SENSITIVE & each.model_fields_set)
    given = parameters.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return f"/views/{view.name}" + (f"?{urlencode(given, doseq=True)}" if given else "")


async def look_at(page: Page, world: PopulatedWorld, path: str) -> None:
    """Open a page, and see that it is one."""
    answer = await page.goto(world.url + path)
    assert answer is not None
    assert answer.status == 200, path
    assert await page.locator("h1").count() == 1, path
    assert await page.title() != "", path


async def test_every_page_is_accessible_and_fits_a_phone(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.OWNER)
    await assert_usable(page, world, [*pages(world, Role.OWNER), *kinds_of_forms()])


@pytest.mark.long
async def test_every_form_is_accessible_and_fits_a_phone(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.OWNER)
    await assert_usable(page, world, forms(Role.OWNER))


async def assert_usable(page: Page, world: PopulatedWorld, paths: list[str]) -> None:
    """See that axe finds nothing serious on any of these pages, and that none is wider than a phone."""
    faults = []
    for path in paths:
        await look_at(page, world, path)
        faults += [f"{path}: {fault}" for fault in await all_barriers(page)]
        await page.set_viewport_size(PHONE)
        if not await fits(page):
            faults.append(f"{path}: too wide for a phone: {await too_wide(page)}")
        await page.set_viewport_size(DESK)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("role", list(Role))
async def test_the_pages_of_a_role_are_whole_and_its_navigation_leads_to_no_other(
    role: Role, world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    page = await sign_in_as(world, role)
    links = await page.locator("nav#menu a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    shown = {domain_of(link.rpartition("/")[2]) for link in links} - {"", "approvals"}
    held = GRANTED[role]
    assert shown <= {domain_of(view.name) for view in VIEWS.values() if view.permission in held}
    assert ("accounts" in shown) is (Permission.ACCOUNTS_SEE in held)
    assert ("audit" in shown) is (Permission.AUDIT_SEE in held)
    assert ("/" in links) is (Permission.HEALTH_SEE in held)
    for path in dict.fromkeys([*links, *pages(world, role)]):
        await look_at(page, world, path)


@pytest.mark.parametrize("role", list(Role))
async def test_the_permission_table_cell_by_cell(role: Role, world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, role)
    refused = {}
    for name, view in VIEWS.items():
        refused[view.permission, f"view {name}"] = await page.request.get(world.url + view_path(world, view))
    for name, action in ACTIONS.items():
        refused[action.permission, f"form of {name}"] = await page.request.get(f"{world.url}/actions/{name}")
        parameters = example_of(name, action.takes, world.town).model_dump(mode="json", by_alias=True)
        tried = {"parameters": parameters, "reason": "trying", "dryRun": True}
        address = f"{world.url}/api/v1/actions/{name}"
        refused[action.permission, f"doing {name}"] = await page.request.post(address, data=tried, headers=OURS)
    held = GRANTED[role]
    found = {(permission, what): await is_refused(answer) for (permission, what), answer in refused.items()}
    assert found == {(permission, what): permission not in held for permission, what in refused}


async def is_refused(answer: APIResponse) -> bool:
    """Whether the role does not include it, and it is said so; other outcomes are those of who may do it."""
    return answer.status == 403 and NotPermitted.sentence in await answer.text()


async def test_what_is_not_permitted_is_said_on_a_page_with_a_way_back(
    world: PopulatedWorld, sign_in_as: SignInAs, watch: Watch
) -> None:
    watch.expected.append("status of 403")
    page = await sign_in_as(world, Role.VIEWER, "/views/accounts.search")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.locator("main")).to_contain_text("Your role does not include this.")
    await assert_accessible(page)


async def test_what_there_is_not_is_said_on_a_page(world: PopulatedWorld, sign_in_as: SignInAs, watch: Watch) -> None:
    watch.expected.append("status of 404")
    page = await sign_in_as(world, Role.OWNER, "/views/nothing.there")
    await expect(page.locator("main")).to_contain_text("There is nothing like that here.")
    await assert_accessible(page)


async def test_no_page_shows_content_or_a_number(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.OWNER)
    numbers = [person.number for person in world.town.people if person.number is not None]
    for path in [*pages(world, Role.OWNER), *forms(Role.OWNER)]:
        answer = await page.request.get(world.url + path)
        body = await answer.body()
        assert CONTENT not in body, path
        assert not any(number.encode() in body for number in numbers), path


async def test_pages_speak_french_to_whoever_wants_it(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.OWNER, locale="fr-FR")
    assert await page.locator("html").get_attribute("lang") == "fr"
    await expect(page.get_by_role("heading", level=1)).to_have_text("Vue d’ensemble")
    await page.get_by_role("button", name="English").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert await page.locator("html").get_attribute("lang") == "en"


async def test_the_theme_that_somebody_chooses_stays(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.VIEWER, "/views/schema.show")
    for theme in ("dark", "light"):
        await page.get_by_role("button", name=theme.capitalize()).click()
        await expect(page.locator("html")).to_have_attribute("data-theme", theme)
        await expect(page).to_have_url(f"{world.url}/views/schema.show")


@pytest.mark.long
async def test_screenshots_of_all_pages(world: PopulatedWorld, sign_in_as: SignInAs) -> None:
    page = await sign_in_as(world, Role.OWNER)
    for path in [*pages(world, Role.OWNER), *forms(Role.OWNER)]:
        await look_at(page, world, path)
        await take_screenshots(page, path.partition("?")[0].strip("/").replace("/", "-") or "overview")
