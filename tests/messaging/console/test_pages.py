"""Pages of everything in the registry: what they show to whom, how something dangerous is asked, and that nothing shown can run."""

import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from messaging.console import page_map
from messaging.console.forms import fields_of
from messaging.relay.admin.desk import Action, Done, Effect, Operator, View
from messaging.relay.admin.errors import Conflict
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.admin.proposals import SETTING
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.operator_settings import read_setting, write_setting
from tests.consoles import Browser, StartedConsole
from tests.messaging.relay.admin.town import NUMBER, Town, a_town

BREAKERS = """'"></td></textarea></script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"""


class Found(HTMLParser):
    """What a browser would make of a page, as far as it could run anything."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.running: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self.running += [name for name in given if name.startswith("on") or name == "style"]
        addresses = [given.get(name) or "" for name in ("href", "src", "action")]
        self.running += [
            address for address in addresses if address.lower().strip().startswith(("javascript:", "data:"))
        ]
        if tag == "script" and not (given.get("src") or "").startswith("/assets/"):
            self.running.append("script")
        if given.get("src") == "x":
            self.running.append("img")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def parsed(page: str) -> Found:
    found = Found(page)
    assert found.running == []
    return found


def query_of(view: View[Any, Any], town: Town) -> dict[str, str]:
    """What has to be typed for a view, at least."""
    known = {"aci": str(town.people[0].aci), "operatorId": str(town.operators[0])}
    if view.name == "assistants.show":
        known["aci"] = str(town.assistants[0].aci)
    return {field.name: known[field.name] for field in fields_of(view.takes) if field.required}


def address_of(view: View[Any, Any], town: Town) -> str:
    return f"/views/{view.name}?" + "&".join(f"{name}={value}" for name, value in query_of(view, town).items())


@pytest.fixture
async def owner(console: StartedConsole) -> Browser:
    console.clock.now = time.time_ns() // 1_000_000  # the town's: what is in it has not expired
    return await console.owner("Ada")


@pytest.fixture
async def town(console: StartedConsole, owner: Browser) -> Town:
    return await a_town(console.database)


# --- views ---


async def test_every_view_has_a_page(owner: Browser, town: Town) -> None:
    for view in VIEWS.values():
        page = await owner.get(address_of(view, town))
        assert page.status == 200, view.name
        found = parsed(page.text)
        assert sum(tag == "h1" for tag, _ in found.tags) == 1, view.name
        assert sum(tag == "main" for tag, _ in found.tags) == 1, view.name
        assert ("a", {"class": "skip", "href": "#main"}) in found.tags, view.name


async def test_what_leads_somewhere_is_a_link_and_says_so(owner: Browser, town: Town) -> None:
    led: set[str | None] = set()
    for address in ("/", "/account", "/actions/invites.make", *(address_of(view, town) for view in VIEWS.values())):
        links = [given for tag, given in parsed((await owner.get(address)).text).tags if tag == "a"]
        assert not [given for given in links if "role" in given], address  # a button answers Space, which no link does
        led |= {given["href"] for given in links if "button" in (given.get("class") or "").split()}
    assert {"/views/overview.show.json", "/actions/invites.make", "/actions/tokens.make"} <= led


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_the_overview_is_the_first_page(owner: Browser, town: Town, language: str) -> None:
    page = await owner.get("/", **{"Accept-Language": language})
    assert page.status == 200
    found = parsed(page.text)
    assert ("html", {"lang": language}) in found.tags
    assert [given["data-chart"] for _, given in found.tags if "data-chart" in given] == [
        "traffic",
        "delay",
        "sockets",
        "errors",
    ]


def operator_with(role: Role) -> Operator:
    return Operator(1, "x", GRANTED[role], "console")


@pytest.mark.parametrize("role", Role)
def test_the_navigation_offers_what_the_role_may_see(role: Role) -> None:
    offered = {item.domain for _, items in page_map.navigation(operator_with(role)) for item in items}
    seen = {page_map.domain_of(view.name) for view in VIEWS.values() if view.permission in GRANTED[role]}
    assert offered - {"approvals"} <= seen
    assert ("audit" in offered) == (role in {Role.SECURITY, Role.OWNER})


@pytest.mark.parametrize("role", Role)
async def test_a_page_is_shown_to_whom_the_table_says(
    console: StartedConsole, owner: Browser, town: Town, role: Role
) -> None:
    browser = await console.operator(role, f"as {role}")
    for view in VIEWS.values():
        page = await browser.get(address_of(view, town))
        assert page.status == (200 if view.permission in GRANTED[role] else 403), view.name
    for action in ACTIONS.values():
        form = await browser.get(f"/actions/{action.name}")
        assert form.status == (200 if action.permission in GRANTED[role] else 403), action.name


async def test_who_may_not_hears_that_before_anything_that_they_have_sent_is_read(
    console: StartedConsole, owner: Browser
) -> None:
    viewer = await console.operator(Role.VIEWER, "Vi")
    answers = {
        "accounts.show": await viewer.get("/views/accounts.show.json?aci=none"),
        "accounts.search": await viewer.get("/views/accounts.search?number=%2B33155500101"),
        "accounts.suspend": await viewer.post("/actions/accounts.suspend", {"aci": "none", "step": "do"}),
    }
    for name, answer in answers.items():
        assert answer.status == 403, name
        (entry,) = (await owner.get(f"/views/audit.list.json?action={name}")).json["entries"]
        assert (entry["operator"], entry["outcome"]) == ("Vi", "refused")


async def test_figures_are_for_who_may_see_them_and_who_tries_is_noted(
    console: StartedConsole, owner: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = await console.operator(Role.VIEWER, "Vi")
    assert (await viewer.get("/live.json", Accept="application/json")).status == 200
    monkeypatch.setitem(GRANTED, Role.VIEWER, frozenset())  # every role may, by the table
    assert (await viewer.get("/live.json", Accept="application/json")).status == 403
    (entry,) = (await owner.get("/views/audit.list.json?operator=Vi&action=overview.show")).json["entries"]
    assert entry["outcome"] == "refused"


@pytest.mark.parametrize("path", ["/views/accounts.search", "/views/accounts.search.json", "/actions/invites.make"])
async def test_a_number_in_an_address_is_refused(owner: Browser, path: str) -> None:
    answer = await owner.get(f"{path}?number=%2B33155500101", Accept="application/json")
    assert (answer.status, answer.json["fields"]) == (422, ["number"])


async def test_a_number_is_looked_up_and_stands_nowhere(owner: Browser, town: Town) -> None:
    form = parsed((await owner.get("/views/accounts.search")).text)
    assert [given["method"] for tag, given in form.tags if tag == "form" and given.get("class") == "filter"] == ["post"]
    page = await owner.post("/views/accounts.search", {"number": NUMBER})
    assert page.status == 200
    assert NUMBER not in page.text
    wrong = await owner.post("/views/accounts.search", {"number": "0155"})
    assert wrong.status == 422
    assert "A number has a plus sign" in wrong.text


async def test_a_list_goes_on_and_keeps_its_filter(console: StartedConsole, owner: Browser) -> None:
    for _ in range(3):
        await owner.get("/views/accounts.search")
    page = await owner.get("/views/audit.list?action=accounts.search&limit=2")
    (older,) = [
        given["href"] or ""
        for tag, given in parsed(page.text).tags
        if tag == "a" and "before=" in (given.get("href") or "")
    ]
    assert "action=accounts.search" in older
    rest = await owner.get(older)
    assert rest.text.count("<code>accounts.search</code>") == 1


async def test_a_view_is_a_file_too(owner: Browser, town: Town) -> None:
    aci = town.people[0].aci
    file = await owner.get(f"/views/accounts.report.json?aci={aci}")
    assert file.headers["Content-Disposition"] == 'attachment; filename="accounts.report.json"'
    assert file.json["aci"] == str(aci)
    assert "Print this page" in (await owner.get(f"/views/accounts.report?aci={aci}")).text


@pytest.mark.parametrize(
    "address", ["/views/nothing", "/views/nothing.json", "/actions/nothing", "/views/../../etc/passwd"]
)
async def test_what_there_is_not_is_a_page_that_says_so(owner: Browser, address: str) -> None:
    page = await owner.get(address)
    assert page.status == 404
    assert "There is nothing like that here." in parsed(page.text).said


# --- actions ---


async def test_every_action_has_a_form(owner: Browser) -> None:
    for action in ACTIONS.values():
        page = await owner.get(f"/actions/{action.name}")
        assert page.status == 200, action.name
        tags = parsed(page.text).tags
        named = {given.get("name") for tag, given in tags if tag in {"input", "select", "textarea"}}
        assert {field.name for field in fields_of(action.takes)} <= named, action.name
        labelled = {given.get("for") for tag, given in tags if tag == "label"}
        seen = [
            given for tag, given in tags if tag in {"select", "textarea"} or given.get("type") in {"text", "number"}
        ]
        assert {given.get("id") for given in seen} <= labelled, action.name


async def test_something_dangerous_is_tried_then_asked_then_done(
    console: StartedConsole, owner: Browser, town: Town
) -> None:
    address, aci = "/actions/accounts.suspend", str(town.people[0].aci)
    asked = await owner.post(address, {"aci": aci})
    assert "What this will touch" in asked.text
    assert "devices" in asked.text
    assert f'name="aci" value="{aci}"' in asked.text
    assert "suspended" not in (await owner.get(f"/views/accounts.show.json?aci={aci}")).json["state"]

    unsaid = await owner.post(address, {"aci": aci, "step": "do", "reason": "  "})
    assert unsaid.status == 422
    assert "Say why" in unsaid.text

    done = await owner.post(address, {"aci": aci, "step": "do", "reason": "ticket 4711"})
    assert done.status == 200
    assert (await owner.get(f"/views/accounts.show.json?aci={aci}")).json["state"] == "suspended"
    assert "ticket 4711" in (await owner.get("/views/audit.list?action=accounts.suspend")).text


async def test_a_wrong_field_is_told_beside_it(owner: Browser) -> None:
    page = await owner.post("/actions/invites.make", {"uses": "0", "number": NUMBER, "role": "member"})
    assert page.status == 422
    found = parsed(page.text)
    (uses,) = [given for tag, given in found.tags if given.get("id") == "field-uses"]
    assert (uses["aria-invalid"], uses["value"]) == ("true", "0")
    assert "error-uses" in (uses["aria-describedby"] or "")
    assert NUMBER not in page.text


async def test_what_is_shown_once_can_be_copied(owner: Browser) -> None:
    page = await owner.post("/actions/invites.make", {"uses": "1", "role": "member", "step": "do"})
    found = parsed(page.text)
    assert page.status == 200
    assert "Shown this once" in found.said
    assert [given["data-copy"] for _, given in found.tags if "data-copy" in given] == ["shown-1"]


async def test_a_second_operator_approves(console: StartedConsole, owner: Browser, town: Town) -> None:
    await let_wait(console, "accounts.suspend")
    aci = str(town.people[0].aci)
    waits = await owner.post("/actions/accounts.suspend", {"aci": aci, "step": "do", "reason": "spam"})
    assert waits.status == 202
    assert "Waiting for a second operator" in waits.text
    number = (await owner.get("/views/proposals.list.json")).json["proposals"][-1]["id"]
    assert aci in (await owner.get("/approvals")).text
    assert (await owner.post(f"/approvals/{number}/approve")).status == 403

    viewer = await console.operator(Role.VIEWER, "Vi")
    assert aci not in (await viewer.get("/approvals")).text
    assert (await viewer.post(f"/approvals/{number}/approve")).status == 404

    second = await console.operator(Role.MODERATOR, "Bo")
    assert "Approve and do it" in (await second.get("/approvals")).text
    assert (await second.post(f"/approvals/{number}/approve")).status == 200
    assert (await second.post(f"/approvals/{number}/approve")).status == 409
    assert (await owner.get(f"/views/accounts.show.json?aci={aci}")).json["state"] == "suspended"


async def let_wait(console: StartedConsole, *actions: str) -> None:
    """Have these actions wait for a second operator."""
    async with console.database.begin() as db:
        before = await read_setting(db, SETTING)
        version = 0 if before is None else before.version
        await write_setting(db, SETTING, {"actions": list(actions)}, after=version, at=1, by="test")


@pytest.mark.parametrize(
    "address", ["/approvals/x/approve", "/approvals/0/approve", f"/approvals/{'9' * 30}/reject", "/approvals/1/burn"]
)
async def test_a_proposal_that_there_is_not_is_not_decided_on(owner: Browser, address: str) -> None:
    assert (await owner.post(address)).status == 404


# --- preferences ---


@pytest.mark.parametrize(
    ("back", "to"),
    [
        ("/approvals", "/approvals"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
    ],
)
async def test_a_theme_is_remembered_and_leads_back_to_a_page_of_ours(owner: Browser, back: str, to: str) -> None:
    answer = await owner.post("/preferences", {"theme": "dark", "language": "fr", "back": back})
    assert (answer.status, answer.headers["Location"]) == (303, to)
    page = parsed((await owner.get("/approvals")).text)
    assert ("html", {"lang": "fr", "data-theme": "dark"}) in page.tags


async def test_a_preference_that_there_is_not_is_not_kept(owner: Browser) -> None:
    answer = await owner.post("/preferences", {"theme": BREAKERS, "language": "tlh"})
    assert "Set-Cookie" not in answer.headers


# --- what is shown cannot run ---


def hostile(schema: dict[str, Any], known: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """JSON that fits a schema, as bad as can be."""
    if "$ref" in schema:
        return hostile(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return hostile(next(each for each in schema["anyOf"] if each.get("type") != "null"), known)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: hostile(each, known) for name, each in schema["properties"].items()}
        case "object":
            value = schema.get("additionalProperties")
            return {BREAKERS: hostile(value if isinstance(value, dict) else {}, known)}
        case "array":
            return [hostile(schema.get("items", {}), known)]
        case "integer":
            return 7
        case "number":
            return 7.5
        case "boolean":
            return True
        case _:
            return BREAKERS


@pytest.fixture
def registry() -> Iterator[None]:
    """The registry, as it was before, after the test."""
    views, actions = dict(VIEWS), dict(ACTIONS)
    yield
    VIEWS.update(views)
    ACTIONS.update(actions)


@pytest.mark.usefixtures("registry")
async def test_nothing_that_a_view_shows_can_run(owner: Browser, town: Town) -> None:
    for name in VIEWS:
        await assert_shown_and_not_run(owner, town, name)


async def assert_shown_and_not_run(owner: Browser, town: Town, name: str) -> None:
    view = VIEWS[name]
    schema = view.gives.model_json_schema(mode="serialization", by_alias=True)
    bad = hostile(schema, schema.get("$defs", {}))

    class Shown:
        def model_dump(self, **_: object) -> object:
            return bad

    async def read(*_: object) -> Shown:
        return Shown()

    VIEWS[name] = replace(view, read=read, subject_found=None, shown_to=lambda shown, _: shown)
    for address in (address_of(view, town), *(["/"] if name == "overview.show" else [])):
        page = await owner.get(address)
        assert page.status == 200, name
        found = parsed(page.text)
        assert "49" not in found.said.split(), name
        if "&lt;script&gt;" not in page.text:
            assert BREAKERS not in str(bad), f"what {name} has shown is left out"


@pytest.mark.parametrize("name", ["accounts.suspend", "invites.make"])
@pytest.mark.usefixtures("registry")
async def test_nothing_that_an_action_says_can_run(owner: Browser, town: Town, name: str) -> None:
    async def perform(*_: object) -> Done:
        return Done((Effect(BREAKERS, 1),), BREAKERS[:100], {BREAKERS: BREAKERS}, {BREAKERS: BREAKERS})

    ACTIONS[name] = replace(ACTIONS[name], perform=perform)
    form = {"aci": str(town.people[0].aci), "uses": "1", "role": "member"}
    for step in ({}, {"step": "do", "reason": BREAKERS}):
        page = await owner.post(f"/actions/{name}", {**form, **step})
        assert page.status == 200
        assert "&lt;script&gt;" in page.text
        parsed(page.text)


@pytest.mark.usefixtures("registry")
async def test_nothing_that_an_error_says_can_run(owner: Browser, town: Town) -> None:
    async def perform(*_: object) -> Done:
        raise Conflict(BREAKERS)

    ACTIONS["accounts.suspend"] = replace(ACTIONS["accounts.suspend"], perform=perform)
    page = await owner.post("/actions/accounts.suspend", {"aci": str(town.people[0].aci)})
    assert page.status == 409
    parsed(page.text)


async def test_nothing_that_was_typed_can_run(owner: Browser) -> None:
    everything: list[View[Any, Any] | Action[Any]] = [*VIEWS.values(), *ACTIONS.values()]
    for what in everything:
        typed = {field.name: BREAKERS for field in fields_of(what.takes)}
        page = await owner.post(f"/{'views' if isinstance(what, View) else 'actions'}/{what.name}", typed)
        assert page.status in {200, 422}, what.name
        parsed(page.text)
