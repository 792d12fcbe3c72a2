"""The admin API: the registry as JSON, for whom a token is for."""

import time
from dataclasses import dataclass

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from messaging.console.forms import fields_of
from messaging.console.openapi import describe
from messaging.relay.admin.desk import Presence
from messaging.relay.admin.limits import API_CALLS
from messaging.relay.admin.permissions import GRANTED, Permission, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from tests.consoles import Answer, Browser, StartedConsole
from tests.messaging.console.test_pages import let_wait, query_of
from tests.messaging.relay.admin.examples import ACTION_EXAMPLES, example_of
from tests.messaging.relay.admin.town import NUMBER, Town, a_town


@dataclass(frozen=True)
class Program:
    """Somebody's program, with a token."""

    browser: Browser
    token: str

    async def get(self, path: str) -> Answer:
        return await self.browser.send("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"})

    async def post(self, path: str, body: object) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.browser.send("POST", f"/api/v1{path}", headers=headers, json=body)


async def program_of(console: StartedConsole, browser: Browser, role: Role, *permissions: Permission) -> Program:
    """A program of the operator of ``browser``, with a token for all that the role permits, or for less."""
    scope = [each.value for each in (permissions or GRANTED[role])]
    made = await browser.post_json(
        "/api/v1/actions/tokens.make", {"parameters": {"name": "a program", "permissions": scope, "days": 1}}
    )
    assert made.status == 200
    (token,) = [value for value in made.json["shown"].values() if value.startswith("srt_")]
    return Program(await console.browser(), token)


@pytest.fixture
async def owner(console: StartedConsole) -> Browser:
    console.clock.now = time.time_ns() // 1_000_000  # the town's: what is in it has not expired
    return await console.owner("Ada")


@pytest.fixture
async def town(console: StartedConsole, owner: Browser) -> Town:
    return await a_town(console.database)


@pytest.fixture
async def program(console: StartedConsole, owner: Browser) -> Program:
    return await program_of(console, owner, Role.OWNER)


async def test_without_a_token_nobody_is_told_anything(console: StartedConsole) -> None:
    program = Program(await console.browser(), "srt_wrong")
    for path in ("/me", "/openapi.json", "/views/overview.show", "/proposals"):
        answer = await program.get(path)
        assert (answer.status, answer.json["code"]) == (401, "not_signed_in")


async def test_a_token_says_whose_it_is(program: Program) -> None:
    me = (await program.get("/me")).json
    assert me["name"] == "Ada"
    assert set(me["permissions"]) == {each.value for each in Permission}


async def test_every_view_is_read_by_a_query_or_a_body(program: Program, town: Town) -> None:
    for view in VIEWS.values():
        query = query_of(view, town)
        path = f"/views/{view.name}"
        said = await program.get(path + "?" + "&".join(f"{name}={value}" for name, value in query.items()))
        assert said.status == 200, view.name
        view.gives.model_validate_json(said.text)
        numbers = {field.name for field in fields_of(view.takes) if field.kind == "integer"}
        body = {name: int(value) if name in numbers else value for name, value in query.items()}
        assert (await program.post(path, body)).status == 200


async def test_every_action_can_be_tried(program: Program, town: Town) -> None:
    for action in ACTIONS.values():
        if action.presence is not Presence.ANY:  # not for a token
            continue
        parameters = example_of(action.name, action.takes, town, seed=0).model_dump(mode="json", by_alias=True)
        answer = await program.post(f"/actions/{action.name}", {"parameters": parameters, "dryRun": True})
        assert (answer.status, action.name) == (200, action.name)
        assert answer.json["dryRun"]
    assert ACTION_EXAMPLES


async def test_a_dangerous_action_wants_a_reason(program: Program, town: Town) -> None:
    body = {"parameters": {"aci": str(town.people[0].aci)}}
    answer = await program.post("/actions/accounts.suspend", body)
    assert (answer.status, answer.json["code"]) == (422, "reason_needed")
    done = await program.post("/actions/accounts.suspend", {**body, "reason": "spam"})
    assert done.status == 200
    assert done.json["effects"][0] == {"what": "accounts", "count": 1}
    (entry, *_) = (await program.get("/views/audit.list?action=accounts.suspend")).json["entries"]
    assert (entry["operator"], entry["via"], entry["reason"]) == ("Ada", "api", "spam")


async def test_a_token_permits_what_it_was_made_for(console: StartedConsole, owner: Browser, town: Town) -> None:
    program = await program_of(console, owner, Role.OWNER, Permission.HEALTH_SEE)
    for view in VIEWS.values():
        answer = await program.post(f"/views/{view.name}", {})
        assert (answer.status != 403) is (view.permission is Permission.HEALTH_SEE), view.name
    for action in ACTIONS.values():
        parameters = example_of(action.name, action.takes, town, seed=0).model_dump(mode="json", by_alias=True)
        answer = await program.post(f"/actions/{action.name}", {"parameters": parameters, "reason": "x"})
        assert (answer.status, answer.json["code"]) == (403, "not_permitted"), action.name


async def test_who_may_not_hears_that_before_anything_that_they_have_sent_is_read(
    console: StartedConsole, owner: Browser
) -> None:
    program = await program_of(console, owner, Role.OWNER, Permission.HEALTH_SEE)
    answers = {
        "accounts.search": await program.get("/views/accounts.search?number=%2B33155500101"),
        "accounts.show": await program.post("/views/accounts.show", ["no", "object"]),
        "accounts.suspend": await program.post("/actions/accounts.suspend", {"parameters": {"aci": 7}, "dryRun": 7}),
    }
    for name, answer in answers.items():
        assert (answer.status, answer.json["code"]) == (403, "not_permitted"), name
        (entry,) = (await owner.get(f"/views/audit.list.json?action={name}")).json["entries"]
        assert (entry["via"], entry["outcome"]) == ("api", "refused")


async def test_another_operator_approves(console: StartedConsole, owner: Browser, program: Program, town: Town) -> None:
    await let_wait(console, "accounts.suspend")
    body = {"parameters": {"aci": str(town.people[0].aci)}, "reason": "spam"}
    waits = await program.post("/actions/accounts.suspend", body)
    assert (waits.status, waits.json["code"]) == (202, "second_operator_needed")
    number = waits.json["proposal"]
    assert number in [each["id"] for each in (await program.get("/proposals")).json["proposals"]]
    own = await program.post(f"/proposals/{number}/approve", {})
    assert (own.status, own.json["code"]) == (403, "not_permitted")

    browser = await console.operator(Role.MODERATOR, "Bo")
    second = await program_of(console, browser, Role.MODERATOR)
    assert (await second.post(f"/proposals/{number}/approve", {})).status == 200
    again = await second.post(f"/proposals/{number}/reject", {"reason": "late"})
    assert (again.status, again.json["code"]) == (409, "conflict")


async def test_a_number_stands_in_no_address(program: Program, town: Town) -> None:
    answer = await program.get(f"/views/accounts.search?number=%2B{NUMBER[1:]}")
    assert (answer.status, answer.json["fields"]) == (422, ["number"])
    assert (await program.post("/views/accounts.search", {"number": NUMBER})).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/views/nothing", {}, 404, "not_found"),
        ("/actions/nothing", {}, 404, "not_found"),
        ("/views/accounts.show", {}, 422, "invalid"),
        ("/views/accounts.show", [], 422, "invalid"),
        ("/views/accounts.search", {"number": "+49\u0000"}, 422, "invalid"),
        ("/views/audit.list", {"limit": 201}, 422, "invalid"),
        ("/views/audit.list", {"limit": float("nan")}, 422, "invalid"),
        ("/views/audit.list", {"acton": "accounts.suspend"}, 422, "invalid"),
        ("/actions/invites.make", {"parameters": {}, "dryrun": True}, 422, "invalid"),
        ("/actions/accounts.suspend", {"parameters": []}, 422, "invalid"),
        ("/actions/accounts.suspend", {"parameters": {}, "dryRun": "yes"}, 422, "invalid"),
        ("/actions/accounts.suspend", {"parameters": {}, "reason": 5}, 422, "invalid"),
        ("/actions/tokens.revoke", {"parameters": {"tokenId": 1}, "reason": "\u0000"}, 422, "invalid"),
        ("/actions/tokens.revoke", {"parameters": {"tokenId": 1}, "reason": "x" * 501}, 422, "reason_needed"),
        ("/proposals/x/approve", {}, 404, "not_found"),
        ("/proposals/999999999999999999999/approve", {}, 404, "not_found"),
        ("/proposals/9223372036854775808/approve", {}, 404, "not_found"),
    ],
)
async def test_what_is_wrong_has_a_name(program: Program, path: str, body: object, status: int, code: str) -> None:
    answer = await program.post(path, body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["message"]


@pytest.mark.parametrize("body", [b"{", b"[" * 50_000, b'{"a": ' * 20_000, b"\xff"])
async def test_a_body_that_is_not_json_is_refused(program: Program, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {program.token}", "Content-Type": "application/json"}
    answer = await program.browser.send("POST", "/api/v1/views/accounts.search", headers=headers, data=body)
    assert (answer.status, answer.json["code"]) == (422, "invalid")


async def test_who_calls_too_often_waits(console: StartedConsole, program: Program) -> None:
    statuses = set()
    for _ in range(API_CALLS + 50):
        statuses.add((await program.get("/me")).status)
        if 429 in statuses:
            break
    assert statuses == {200, 429}
    other = await program_of(console, await console.operator(Role.VIEWER, "Vi"), Role.VIEWER)
    assert (await other.get("/me")).status == 200


async def test_the_reference_is_valid_and_names_everything(program: Program) -> None:
    document = (await program.get("/openapi.json")).json
    OpenAPIV31SpecValidator(document).validate()
    assert {f"/api/v1/views/{name}" for name in VIEWS} <= document["paths"].keys()
    assert {f"/api/v1/actions/{name}" for name in ACTIONS} <= document["paths"].keys()
    assert document["security"] == [{"token": []}]
    assert "get" not in document["paths"]["/api/v1/views/accounts.search"], "a number would stand in an address"


def test_no_entity_has_the_name_of_a_schema_of_the_api_itself() -> None:
    entities = {kind.__name__ for view in VIEWS.values() for kind in (view.takes, view.gives)}
    entities |= {name for view in VIEWS.values() for name in view.gives.model_json_schema().get("$defs", {})}
    schemas = describe(VIEWS.values(), ACTIONS.values(), version="1")["components"]["schemas"]
    assert {name for name in schemas if name.startswith("Api")} == {"ApiError", "ApiWaiting", "ApiDone", "ApiProposal"}
    assert not {name for name in entities if name.startswith("Api")}


def test_the_reference_is_the_same_each_time() -> None:
    one, other = (describe(VIEWS.values(), ACTIONS.values(), version="1") for _ in range(2))
    assert one == other


async def test_no_cookie_is_needed_and_none_counts_beside_a_token(owner: Browser) -> None:
    headers = {"Authorization": "Bearer srt_wrong"}
    assert (await owner.send("GET", "/api/v1/me", headers=headers)).status == 401
    assert isinstance(owner.http, aiohttp.ClientSession)
