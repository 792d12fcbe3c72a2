"""What somebody else has written is shown as it is, and never becomes a part of the page: stored, and in the address of a request."""

import re
from urllib.parse import quote

from playwright.async_api import Page
from sqlalchemy import update

from messaging.relay.accounts.tables import AccountRow
from messaging.relay.admin.audit import Outcome, Said
from messaging.relay.admin.audit_tables import append
from messaging.relay.admin.operator_tables import OperatorRow, PasskeyRow, SignInRow, TokenRow
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.proposals import ProposalRow
from messaging.relay.assistants.tables import AssistantReleaseRow
from messaging.relay.node_tables import NodeRow
from messaging.relay.operator_settings import REMOTE_CONFIG, read_setting, write_setting
from tests.browser.driving import Watch
from tests.browser.test_pages import pages
from tests.browser.world import PopulatedWorld, SignInAs

STORED = {
    "name of an operator": (OperatorRow.name, OperatorRow.name.in_(["otto"])),
    "name of a passkey": (PasskeyRow.name, PasskeyRow.name != ""),
    "name of a token": (TokenRow.name, TokenRow.name != ""),
    "browser": (SignInRow.browser, SignInRow.browser != ""),
    "name of a node": (NodeRow.name, NodeRow.name == "north"),
    "version of a node": (NodeRow.version, NodeRow.name == "south"),
    "name of an assistant": (AccountRow.assistant_name, AccountRow.assistant_name == "rose"),
    "name of a release": (AssistantReleaseRow.release, AssistantReleaseRow.release != ""),
    "reason of a proposal": (ProposalRow.reason, ProposalRow.reason != ""),
    "proposer": (ProposalRow.operator, ProposalRow.operator != ""),
}
WRITTEN = (
    "operator",
    "subject",
    "reason",
    "detail",
    "name of a setting",
    "value of a setting",
    "who has changed",
)
REFLECTED = (
    "/views/audit.list?operator={}&action={}&subject={}",
    "/views/accounts.search?aci={}",
    "/views/accounts.show?aci={}",
    "/views/{}",
    "/views/assistants.show?assistant={}",
    "/actions/config.change?name={}&value={}&accounts={}",
    "/actions/accounts.suspend?aci={}&reason={}&step={}",
    "/actions/{}",
    "/approvals/{}/approve",
    "/enrol?code={}",
    "/sign-in?back={}",
    "/{}",
)


def canary(what: str) -> str:
    """A picture that cannot be loaded, where it is taken for one; and the template's own words."""
    return f"\"'><img src=x onerror=alert(1)>{{{{7*7}}}}[{what}]"


def seen(text: str) -> set[str]:
    """The canaries that stand in a text, whole."""
    whole = re.escape(canary("N")).replace("N", "([a-z ]+)")
    return set(re.findall(whole, text))


async def test_what_is_stored_is_shown_as_text_wherever_it_is_shown(
    own_world: PopulatedWorld, sign_in_as: SignInAs
) -> None:
    page = await sign_in_as(own_world, Role.OWNER, bypass_csp=True)  # nothing hides behind the policy
    dialogs = followed_dialogs(page)
    await write_canaries(own_world)
    found: set[str] = set()
    for path in pages(own_world, Role.OWNER):
        await page.goto(own_world.url + path)
        await assert_harmless(page, path)
        found |= seen(await page.evaluate("document.body.textContent"))
        found |= seen(" ".join(await page.locator("input, textarea").evaluate_all("all => all.map(it => it.value)")))
    assert dialogs == []
    assert found == STORED.keys() | set(WRITTEN)  # each is shown somewhere, so that each was tried


async def test_what_stands_in_an_address_is_shown_as_text(
    world: PopulatedWorld, sign_in_as: SignInAs, watch: Watch
) -> None:
    watch.expected.append("status of 4")
    page = await sign_in_as(world, Role.OWNER, bypass_csp=True)
    dialogs = followed_dialogs(page)
    for pattern in REFLECTED:
        path = pattern.replace("{}", quote(canary("here"), safe=""))
        await page.goto(world.url + path)
        await assert_harmless(page, path)
    assert dialogs == []


async def write_canaries(world: PopulatedWorld) -> None:
    """Put one into every field that somebody can write and that is shown."""
    async with world.database.begin() as db:
        for what, (column, which) in STORED.items():
            await db.execute(update(column.class_).where(which).values({column: canary(what)}))
        said = Said(
            at=world.town.now,
            operator=canary("operator"),
            via="console",
            action="accounts.show",
            outcome=Outcome.DONE,
            subject=canary("subject"),
            reason=canary("reason"),
            detail={"said": canary("detail")},
        )
        await append(db, said, world.town.desk.secret.audit_key)
        setting = await read_setting(db, REMOTE_CONFIG)
        version = 0 if setting is None else setting.version
        entry = {"value": canary("value of a setting"), "percentage": 5, "accounts": []}
        document = {canary("name of a setting"): entry}
        by = canary("who has changed")
        await write_setting(db, REMOTE_CONFIG, document, after=version, at=world.town.now, by=by)


def followed_dialogs(page: Page) -> list[str]:
    """Fills while the page opens dialogs, which no page of ours does."""
    found: list[str] = []

    def note(dialog: object) -> None:
        found.append(str(dialog))

    page.on("dialog", note)
    return found


async def assert_harmless(page: Page, path: str) -> None:
    """See that no canary has become an element, and no template was filled in with one."""
    assert await page.locator('img[src="x"], [onerror]').count() == 0, path
    assert "49[" not in await page.content(), path
