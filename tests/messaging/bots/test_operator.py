"""What the operator does with bots, at the gateway itself and through its socket."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from messaging.bots.app import Gateway, Settings, open_gateway
from messaging.bots.control import SOCKET, ask, controlled
from messaging.bots.errors import Unauthorized
from messaging.bots.operator import NoSuchBot, NotPossible, Operator, username_of
from messaging.bots.records import Bot
from messaging.client.errors import RegistrationRefused
from messaging.client.testing import MemoryAccount
from tests.messaging.bots.gateways import Api, until, without_pauses


def operator_of(api: Api) -> Operator:
    """The operator of a running gateway, at whose relay an invite is good if it is "good"."""

    @asynccontextmanager
    async def open_account(bot: Bot, invite: str | None = None) -> AsyncIterator[MemoryAccount]:
        folder_of(bot).mkdir(parents=True)
        if invite != "good":
            raise RegistrationRefused(403)
        async with api.world.account(bot, api.world.relay.account(bot=True)) as account:
            yield account

    def folder_of(bot: Bot) -> Path:
        return api.world.folder / str(bot.number)

    return Operator(api.gateway, open_account, folder_of)


async def test_a_bot_is_made_with_an_invite_and_its_token_opens_it(api: Api) -> None:
    made = await operator_of(api).do(
        "create", {"name": " Tea Time ", "relay": "https://relay.example", "invite": "good"}
    )
    assert (made["name"], made["username"]) == ("Tea Time", "tea_time_bot")
    assert api.gateway.bots[made["bot"]].authenticate(made["token"]).bot == made["bot"]
    assert len((await operator_of(api).do("list", {}))["bots"]) == 2


async def test_a_refused_invite_leaves_nothing_behind(api: Api) -> None:
    with pytest.raises(RegistrationRefused):
        await operator_of(api).do("create", {"name": "X", "relay": "https://relay.example", "invite": "bad"})
    assert len(api.gateway.bots) == 1
    assert [path for path in api.world.folder.iterdir() if path.is_dir()] == []


TEA = {"name": "Tea", "relay": "https://relay.example", "invite": "good"}


async def test_a_bot_whose_making_was_cut_off_is_made_with_the_account_that_it_got(api: Api) -> None:
    """The invite is used up, so there would be no other one."""
    registered: list[int] = []

    @asynccontextmanager
    async def open_account(bot: Bot, invite: str | None = None) -> AsyncIterator[MemoryAccount]:
        if not registered:
            registered.append(bot.number)
            raise KeyboardInterrupt  # the process ends; what the store has of the account stays
        assert (bot.number, invite) == (registered[0], "good")
        async with api.world.account(bot, api.world.relay.account(bot=True)) as account:
            yield account

    def operator(gateway: Gateway) -> Operator:
        return Operator(gateway, open_account, lambda bot: api.world.folder / str(bot.number))

    settings = Settings(home=api.world.folder / "other", port=0)
    async with open_gateway(settings, open_account) as gateway:
        with pytest.raises(KeyboardInterrupt):
            await operator(gateway).do("create", TEA)
    async with open_gateway(settings, open_account) as gateway:
        assert await operator(gateway).do("list", {}) == {"bots": []}
        made = await operator(gateway).do("create", TEA)
        assert made["bot"] == registered[0]
    async with open_gateway(settings, open_account) as gateway:
        assert gateway.unfinished == {}
        assert gateway.bots[made["bot"]].authenticate(made["token"]).bot == made["bot"]


async def test_a_bot_with_another_name_goes_on_with_nothing_of_it(api: Api) -> None:
    await api.gateway.begin(Bot(number=1_000_000_001, name="Tea", username="tea_bot", relay=TEA["relay"]))
    for other in ({"name": "Coffee"}, {"relay": "https://other.example"}):
        assert (await operator_of(api).do("create", {**TEA, **other}))["bot"] != 1_000_000_001
    assert list(api.gateway.unfinished) == [1_000_000_001]


async def test_while_a_relay_does_not_answer_a_token_is_revoked(api: Api) -> None:
    asked = asyncio.Event()

    @asynccontextmanager
    async def open_account(bot: Bot, invite: str | None = None) -> AsyncIterator[MemoryAccount]:
        asked.set()
        await asyncio.Event().wait()
        yield  # type: ignore[misc]

    operator = Operator(api.gateway, open_account, lambda bot: api.world.folder / str(bot.number))
    text, token = await api.running.add_token(["read"])
    creating = asyncio.create_task(operator.do("create", TEA))
    await asked.wait()
    async with asyncio.timeout(5):
        await operator.do("token-revoke", {"bot": "echo_bot", "token": token.id})
    with pytest.raises(Unauthorized):
        api.running.authenticate(text)
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("create", {"name": "", "relay": "x", "invite": "good"}),
        ("create", {"name": "x" * 65, "relay": "x", "invite": "good"}),
        ("create", {"name": "a\nb", "relay": "x", "invite": "good"}),
        ("create", {"name": "x"}),
        ("noSuch", {}),
        ("list", {"x": 1}),
        ("token-add", {"bot": "echo_bot", "scopes": ["write"]}),
        ("token-rotate", {"bot": "echo_bot", "overlap": -1}),
        ("token-rotate", {"bot": "echo_bot", "overlap": 8 * 86400}),
        ("token-rotate", {"bot": "echo_bot", "token": "no such"}),
        ("token-revoke", {"bot": "echo_bot", "token": "no such"}),
    ],
)
async def test_what_cannot_be_done_says_why(api: Api, action: str, given: dict[str, object]) -> None:
    with pytest.raises(NotPossible):
        await operator_of(api).do(action, given)
    assert len(api.gateway.bots) == 1


@pytest.mark.parametrize(
    ("action", "given"),
    [("parked", {}), ("replay", {"ids": [1]}), ("drop", {"ids": [1]}), ("token-add", {"scopes": ["read"]})],
)
async def test_a_bot_that_is_not_there_is_none(api: Api, action: str, given: dict[str, object]) -> None:
    with pytest.raises(NoSuchBot):
        await operator_of(api).do(action, {"bot": "nobody", **given})


async def test_tokens_are_added_rotated_and_revoked(api: Api) -> None:
    operator = operator_of(api)
    added = await operator.do("token-add", {"bot": "echo_bot", "scopes": ["read"], "seconds": 60})
    assert added["scopes"] == ["read"]
    assert api.running.authenticate(added["token"]).id == added["id"]
    with pytest.raises(NotPossible, match="by its id"):
        await operator.do("token-rotate", {"bot": "echo_bot"})
    rotated = await operator.do("token-rotate", {"bot": "echo_bot", "token": added["id"], "overlap": 60})
    assert api.running.authenticate(rotated["token"]).scopes == {"read"}
    await operator.do("token-revoke", {"bot": "echo_bot", "token": added["id"]})
    with pytest.raises(Unauthorized):
        api.running.authenticate(added["token"])
    assert await api.ok("getMe")


async def test_what_was_set_aside_is_told_without_its_content(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "CANARY")
    inbox = api.running.session.account.inbox
    without_pauses(inbox)
    await until(lambda: inbox.waiting == 1)
    for _ in range(8):
        (leased,) = await inbox.take(1, lease=60, wait=5)
        await inbox.failed(leased, "HTTP 500")
    operator = operator_of(api)
    told = await operator.do("parked", {"bot": "echo_bot"})
    ((parked,),) = told.values()
    assert (parked["kind"], parked["reason"], parked["attempts"]) == ("message", "HTTP 500", 8)
    assert "CANARY" not in json.dumps(told)
    assert await operator.do("replay", {"bot": "echo_bot", "ids": [parked["id"]]}) == {"replayed": 1}
    assert await operator.do("drop", {"bot": str(api.number), "ids": [parked["id"]]}) == {"dropped": 0}
    assert [update["message"]["text"] for update in await api.updates()] == ["CANARY"]


@pytest.mark.parametrize(
    ("name", "taken", "username"),
    [
        ("Echo", [], "echo_bot"),
        ("Tea Time!", [], "tea_time_bot"),
        ("robot", [], "robot"),
        ("Echo", ["echo_bot"], "echo_2_bot"),
        ("Echo", ["echo_bot", "echo_2_bot"], "echo_3_bot"),
        ("42", [], "a_42_bot"),
        ("日本", [], "a_bot"),
        ("x" * 64, [], "x" * 24 + "_bot"),
    ],
)
def test_a_username_is_made_of_the_name(name: str, taken: list[str], username: str) -> None:
    assert username_of(name, taken) == username


# --- the socket ---


@pytest.fixture
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path."""
    return tmp_path_factory.mktemp("h")


async def test_a_running_gateway_is_asked_through_its_socket(api: Api, home: Path) -> None:
    async with controlled(operator_of(api), home) as is_there:
        assert is_there
        assert stat.S_IMODE((home / SOCKET).stat().st_mode) == 0o600
        done = await ask(home, "list", {})
        assert done is not None
        assert [each["username"] for each in done["bots"]] == ["echo_bot"]
        with pytest.raises(NotPossible, match="no such bot"):
            await ask(home, "parked", {"bot": "nobody"})
    assert await ask(home, "list", {}) is None


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[1,2,3]\n", b"nothing\n", b'["list", []]\n', b"x" * 300_000 + b"\n"]
)
async def test_what_it_does_not_understand_it_answers(api: Api, home: Path, line: bytes) -> None:
    async with controlled(operator_of(api), home):
        reader, writer = await asyncio.open_unix_connection(home / SOCKET)
        writer.write(line)
        assert "error" in json.loads(await reader.readline())
        writer.close()
        assert await ask(home, "list", {}) is not None


async def test_where_a_path_is_too_long_there_is_no_socket(api: Api, tmp_path: Path) -> None:
    async with controlled(operator_of(api), tmp_path / ("x" * 100)) as is_there:
        assert not is_there
