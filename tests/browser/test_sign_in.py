"""Coming in and going out, with a real browser and passkeys of a virtual authenticator."""

from playwright.async_api import expect

from messaging.relay.admin.permissions import Role
from tests.browser.driving import Authenticator, Watch, assert_accessible
from tests.browser.world import OpenPage, PopulatedWorld, SignInAs, World, enrol


async def test_whoever_opens_the_first_link_becomes_the_owner_and_nobody_else_does(
    empty_world: World, open_page: OpenPage, watch: Watch
) -> None:
    link = empty_world.console.first_link
    assert link is not None
    page = await open_page()
    await page.goto(link)
    assert page.url == f"{empty_world.url}/enrol"  # the code is in no history, once it was read
    await assert_accessible(page)
    await enrol(page, link, "Ada")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    await expect(page.locator("nav#menu")).to_contain_text("Operators")
    watch.expected.append("status of 404")
    late = await open_page()
    await Authenticator.plug_in(late)
    await late.goto(link)
    await late.get_by_label("Your name").fill("Eve")
    await late.get_by_role("button", name="Make a passkey").click()
    await expect(late.get_by_role("alert").filter(visible=True)).to_contain_text("used already")


async def test_signing_out_ends_it_and_the_passkey_opens_it_again(empty_world: World, open_page: OpenPage) -> None:
    page = await open_page()
    await enrol(page, empty_world.console.first_link or "", "Ada")
    [before] = await page.context.cookies()
    assert before["httpOnly"]
    assert before["sameSite"] == "Strict"
    await page.get_by_role("button", name="Sign out").first.click()
    await expect(page).to_have_url(f"{empty_world.url}/sign-in")
    await assert_accessible(page)
    assert await page.context.cookies() == []
    await page.goto(empty_world.url)
    await expect(page).to_have_url(f"{empty_world.url}/sign-in")
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page).to_have_url(f"{empty_world.url}/")
    [after] = await page.context.cookies()
    assert after["value"] != before["value"]


async def test_the_cookie_of_somebody_who_has_signed_out_is_worth_nothing(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    first, second = [await sign_in_as(own_world, Role.VIEWER) for _ in range(2)]
    await first.get_by_role("button", name="Sign out").first.click()
    await second.reload()
    await expect(second).to_have_url(f"{own_world.url}/sign-in")


async def test_without_the_passkey_nobody_comes_in_and_is_told_what_to_do(
    world: PopulatedWorld, open_page: OpenPage, watch: Watch
) -> None:
    watch.origin = world.url
    page = await open_page()
    authenticator = await Authenticator.plug_in(page)
    await page.goto(f"{world.url}/sign-in")
    await authenticator.forget()
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("Nothing was signed")
    await expect(page).to_have_url(f"{world.url}/sign-in")


async def test_a_passkey_that_does_not_know_its_user_does_not_open(empty_world: World, open_page: OpenPage) -> None:
    page = await open_page()
    authenticator = await enrol(page, empty_world.console.first_link or "", "Ada")
    await page.get_by_role("button", name="Sign out").first.click()
    await authenticator.verify_user(False)
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("Nothing was signed")


async def test_a_second_passkey_is_added_and_opens_too(empty_world: World, open_page: OpenPage) -> None:
    page = await open_page()
    first = await enrol(page, empty_world.console.first_link or "", "Ada")
    [old] = await first.credentials()
    # One authenticator makes one passkey of an account: the second one is made by another.
    await first.unplug()
    second = await Authenticator.plug_in(page)
    await page.get_by_label("What you call the new passkey").fill("A key on a chain")
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("cell", name="A key on a chain", exact=True)).to_be_visible()
    [new] = await second.credentials()
    assert new["credentialId"] != old["credentialId"]
    await page.get_by_role("button", name="Sign out").first.click()
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page).to_have_url(f"{empty_world.url}/")


async def test_a_recovery_code_lets_somebody_add_a_passkey_and_do_nothing_else(
    empty_world: World, open_page: OpenPage
) -> None:
    page = await open_page()
    authenticator = await enrol(page, empty_world.console.first_link or "", "Ada")
    await page.get_by_role("button", name="Make new recovery codes").click()
    codes = await page.locator("main code, main output, main li").all_inner_texts()
    code = next(text for text in codes if text.count("-") == 3)
    await assert_accessible(page)
    await authenticator.forget()
    other = await open_page()
    await other.goto(f"{empty_world.url}/sign-in")
    await other.get_by_text("You have no passkey at hand").click()
    await other.get_by_label("Recovery code").fill(code)
    await other.get_by_role("button", name="Go on").click()
    await expect(other).to_have_url(f"{empty_world.url}/account")
    await other.goto(f"{empty_world.url}/views/accounts.search")
    await expect(other).to_have_url(f"{empty_world.url}/account")
    await Authenticator.plug_in(other)
    await other.get_by_label("What you call the new passkey").fill("Found again")
    await other.get_by_role("button", name="Add a passkey").click()
    await expect(other).to_have_url(f"{empty_world.url}/sign-in")
    await other.get_by_role("button", name="Sign in with a passkey").click()
    await expect(other).to_have_url(f"{empty_world.url}/")
    await page.reload()  # the sign-in of before has ended: perhaps the device was stolen
    await expect(page).to_have_url(f"{empty_world.url}/sign-in")
