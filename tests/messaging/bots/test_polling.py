"""getUpdates: what is given, when it comes again, and when it is over; for one poller as at Telegram, and for several with leases."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.feed import Given
from messaging.bots.limits import MAX_AHEAD, MAX_CONSUMERS, MAX_LISTED, MAX_OF_ONE_CHAT, PLAIN_QUIET
from messaging.bots.polling import Window, of_one_chat, within
from messaging.client.bot.inbox import Leased
from messaging.client.errors import StoreFailed
from messaging.client.events import MessageReceived
from messaging.client.testing import MemoryAccount
from messaging.wire.identifiers import ServiceId
from tests.messaging.bots.gateways import Api, running_api, until


def texts(updates: list[dict[str, Any]]) -> list[str]:
    return [update["message"]["text"] for update in updates]


def numbers(updates: list[dict[str, Any]]) -> list[int]:
    return [update["update_id"] for update in updates]


# --- one poller ---


async def test_what_is_not_confirmed_comes_again_and_what_is_does_not(api: Api) -> None:
    conversation = await api.private()
    for text in ("one", "two", "three"):
        api.says(conversation, text)
    await until(lambda: api.running.session.account.inbox.waiting == 3)
    first = await api.updates()
    assert texts(first) == ["one", "two", "three"]
    assert await api.updates() == first
    assert await api.updates(offset=first[1]["update_id"]) == first[1:]
    assert await api.updates(offset=first[2]["update_id"] + 1, timeout=0) == []
    assert api.running.session.account.inbox.waiting == 0


async def test_numbers_of_updates_and_messages_only_grow(api: Api) -> None:
    private, group = await api.private(), await api.group()
    offset, seen = 0, []
    for place in range(6):
        api.says((private, group)[place % 2], f"/{place}")
        (update,) = await api.updates(offset=offset)
        offset = update["update_id"] + 1
        seen.append(update)
    assert numbers(seen) == sorted(set(numbers(seen)))
    for chat in (seen[::2], seen[1::2]):
        assert [update["message"]["message_id"] for update in chat] == [1, 2, 3]


async def test_waits_for_something_and_answers_at_once_when_it_comes(api: Api) -> None:
    conversation = await api.private()
    waiting = asyncio.create_task(api.updates(timeout=50))
    await until(lambda: api.running._requests == 1)
    api.says(conversation, "here")
    assert texts(await asyncio.wait_for(waiting, 5)) == ["here"]


async def test_answers_with_nothing_when_the_time_is_over(api: Api) -> None:
    assert await api.updates(timeout=0) == []
    assert await api.updates(timeout=1) == []


async def test_a_second_poller_ends_the_first(api: Api) -> None:
    first = asyncio.create_task(api.call("getUpdates", timeout=50))
    await until(lambda: api.running.session.polling._poller is not None)
    second = asyncio.create_task(api.call("getUpdates", timeout=50))
    ended = await asyncio.wait_for(first, 5)
    assert ended.status == 409
    assert ended.body["description"] == "Conflict: terminated by other getUpdates request"
    api.world.relay.begin(api.alice, "", [api.me])
    assert (await asyncio.wait_for(second, 5)).status == 200


async def drained(api: Api, count: int) -> list[dict[str, Any]]:
    """So many updates, as a program polls that confirms what it got."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += await api.updates(offset=found[-1]["update_id"] + 1 if found else 0)
    return found


async def test_nothing_is_lost_when_a_poller_is_ended(api: Api) -> None:
    conversation = await api.private()
    pollers = []
    for number in range(10):
        pollers.append(asyncio.create_task(api.call("getUpdates", timeout=50)))
        api.says(conversation, str(number))
        await asyncio.sleep(0)
    await asyncio.gather(*pollers)
    assert texts(await drained(api, 10)) == [str(number) for number in range(10)]


async def test_a_limit_holds_and_the_rest_comes_later(api: Api) -> None:
    conversation = await api.private()
    for number in range(5):
        api.says(conversation, str(number))
    await until(lambda: api.running.session.account.inbox.waiting == 5)
    assert texts(await api.updates(limit=1)) == ["0"]
    first = await api.updates(limit=1)
    assert texts(first) == ["0"]
    assert texts(await api.updates(limit=1, offset=first[0]["update_id"] + 1)) == ["1"]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"timeout": -1}, {"timeout": 51}, {"lease": 0}])
async def test_numbers_beyond_their_limits_are_refused(api: Api, wrong: dict[str, int]) -> None:
    assert await api.refused("getUpdates", **wrong) == (400, f"Bad Request: wrong or missing: {next(iter(wrong))}")


async def test_a_negative_offset_forgets_all_but_the_latest(api: Api) -> None:
    conversations = [await api.private(), await api.private()]
    for number in range(10):
        api.says(conversations[number % 2], str(number))
    await until(lambda: api.running.session.account.inbox.waiting == 10)
    assert sorted(texts(await api.updates(offset=-3))) == ["7", "8", "9"]
    assert api.running.session.account.inbox.waiting == 3


async def test_a_negative_offset_keeps_what_there_is_if_that_is_less(api: Api) -> None:
    conversation = await api.private()
    for number in range(4):
        api.says(conversation, str(number))
    await until(lambda: api.running.session.account.inbox.waiting == 4)
    await api.updates()
    assert texts(await api.updates(offset=-5)) == ["0", "1", "2", "3"]


async def test_an_offset_beyond_all_numbers_loses_nothing(api: Api) -> None:
    """A program that had another bot before goes on with the offset of that one."""
    offset, conversation = 900_000_000, await api.private()
    api.says(conversation, "one")
    first = await api.updates(offset=offset)
    assert (texts(first), numbers(first)) == (["one"], [offset])
    assert await api.updates(offset=offset) == first
    api.says(conversation, "two")
    second = await api.updates(offset=offset + 1)
    assert (texts(second), numbers(second)) == (["two"], [offset + 1])


async def test_an_offset_that_no_number_reaches_is_refused_and_loses_nothing(api: Api) -> None:
    api.says(await api.private(), "one")
    beyond = await api.refused("getUpdates", offset=MAX_AHEAD + 1, timeout=5)
    assert beyond == (400, "Bad Request: the offset is beyond every update")
    assert numbers(await api.updates(offset=MAX_AHEAD)) == [MAX_AHEAD]


@pytest.mark.parametrize("confirm", [{"offset": 2}, {"offset": -1}])
async def test_what_cannot_be_written_as_confirmed_comes_again_at_once(
    api: Api, confirm: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = [await api.private(), await api.private()]
    for conversation, text in zip(conversations, ("one", "two"), strict=True):
        api.says(conversation, text)
    await until(lambda: api.running.session.account.inbox.waiting == 2)
    assert numbers(await api.updates()) == [1, 2]
    with monkeypatch.context() as patched:
        patched.setattr(api.running.session.account.inbox, "handled", on_a_full_disk)
        assert (await api.refused("getUpdates", **confirm))[0] == 503
    assert texts(await api.updates(**confirm)) == ["two"]


async def on_a_full_disk(*_: object) -> None:
    raise StoreFailed


@pytest.mark.parametrize(("method", "fails"), [("confirmUpdates", "handled"), ("failUpdates", "failed")])
async def test_what_cannot_be_written_of_a_consumer_is_still_its_own(
    api: Api, method: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = [await api.private(), await api.private()]
    for conversation in conversations:
        api.says(conversation, "hello")
    await until(lambda: api.running.session.account.inbox.waiting == 2)
    given = numbers(await api.updates(consumer="one"))
    with monkeypatch.context() as patched:
        patched.setattr(api.running.session.account.inbox, fails, on_a_full_disk)
        assert (await api.refused(method, consumer="one", update_ids=given))[0] == 503
    assert await api.ok("confirmUpdates", consumer="one", update_ids=given) == 2


async def test_who_waits_is_told_when_their_token_is_revoked(api: Api) -> None:
    owner, (api.token, program) = api.token, await api.running.add_token(["read"])
    waiting = asyncio.create_task(api.call("getUpdates", timeout=50))
    await until(lambda: api.running.session.polling._poller is not None)
    assert await api.running.revoke(program.id)
    assert (await asyncio.wait_for(waiting, 5)).status == 401
    api.token = owner
    api.says(await api.private(), "hello")
    assert texts(await api.updates()) == ["hello"]


@pytest.mark.parametrize("consumer", ["", "one"])
async def test_who_hangs_up_while_they_wait_takes_nothing_with_them(
    api: Api, consumer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    conversation = await api.private()
    parameters = {"timeout": "50"} | ({"consumer": consumer, "lease": "3600"} if consumer else {})
    async with aiohttp.ClientSession() as program:
        waiting = asyncio.create_task(program.get(api.path("getUpdates"), params=parameters))
        await until(lambda: bool(api.running.session.polling._waiting))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: api.running._requests == 0)
    api.says(conversation, "hello")
    assert texts(await api.updates(consumer="two", lease=60)) == ["hello"]
    assert "warning" not in capfd.readouterr().out


async def test_kinds_are_remembered_until_others_are_asked_for(api: Api) -> None:
    conversation = await api.private()
    kinds = ["message_reaction", "deleted_message"]
    assert await api.updates(timeout=0, allowed_updates=kinds) == []
    said = api.says(conversation, "hello")
    api.world.relay.react(api.alice, conversation.key, said, "🎉", remove=False)
    api.world.relay.delete(api.alice, conversation.key, said)
    await until(lambda: api.running.session.account.inbox.waiting >= 3)
    found = await api.updates()
    assert [key for update in found for key in update if key != "update_id"] == kinds
    assert (await api.ok("getWebhookInfo"))["allowed_updates"] == kinds
    await api.updates(timeout=0, allowed_updates=[], offset=found[-1]["update_id"] + 1)
    api.says(conversation, "again")
    assert texts(await api.updates()) == ["again"]


async def test_what_was_given_and_not_confirmed_comes_again_after_a_restart_under_the_same_number(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path) as api:
        conversation = await api.private()
        for text in ("one", "two"):
            api.says(conversation, text)
        await until(lambda: api.running.session.account.inbox.waiting == 2)
        before = await api.updates()
        assert texts(before) == ["one", "two"]
        api.says(conversation, "three")
        await until(lambda: not api.world.relay.mailbox(api.me))
    async with running_api(tmp_path, world=api.world, me=api.me, token=api.token) as again:
        after = await drained(again, 3)
        assert after[:2] == before
        assert texts(after) == ["one", "two", "three"]


async def test_who_talks_without_end_starves_nobody(api: Api) -> None:
    """10,000 messages of one user wait when another one asks something: the answer is not far."""
    talker, other = await api.private(), await api.group()
    account = api.running.session.account
    assert isinstance(account, MemoryAccount)
    async with account._store.transaction() as transaction:
        for number in range(10_000):
            account.inbox.journal(transaction, MessageReceived(talker.key, api.alice, number, str(number)))
    api.says(other, "/help", by=api.bob)
    await until(lambda: not api.world.relay.mailbox(api.me))
    found = await api.updates(limit=100)
    assert "/help" in texts(found)
    assert len(found) <= MAX_OF_ONE_CHAT + 1
    of_the_talker = [text for text in texts(found) if text != "/help"]
    assert of_the_talker == [str(number) for number in range(len(of_the_talker))]
    assert account.inbox.waiting == 10_001


def test_one_conversation_never_fills_an_answer() -> None:
    assert [of_one_chat(limit) for limit in (1, 4, 8, 40, MAX_LISTED)] == [1, 1, 2, 10, MAX_OF_ONE_CHAT]


# --- several consumers ---


async def test_consumers_share_a_bot_and_none_gets_what_another_has(api: Api) -> None:
    conversations = [await api.private() for _ in range(4)]
    for place, conversation in enumerate(conversations):
        api.says(conversation, f"{place} first")
        api.says(conversation, f"{place} second")
    await until(lambda: api.running.session.account.inbox.waiting == 8)
    one = await api.updates(consumer="one", lease=60, limit=2)
    two = await api.updates(consumer="two", lease=60, limit=2)
    assert not {text[0] for text in texts(one)} & {text[0] for text in texts(two)}
    assert await api.ok("confirmUpdates", consumer="one", update_ids=numbers(one)) == 2
    assert api.running.session.account.inbox.waiting == 6


async def test_who_goes_over_to_leases_gets_what_was_polled_and_not_confirmed_a_while_ago(api: Api) -> None:
    """But not what somebody who polls is handling now."""
    polling, later = api.running.session.polling, 0.0
    polling._monotonic = lambda: time.monotonic() + later
    api.says(await api.private(), "tea?")
    (update,) = await api.updates()
    later = PLAIN_QUIET - 1
    assert await api.refused("getUpdates", consumer="one", lease=60) == (
        409,
        "Conflict: updates that were given without a lease are not confirmed",
    )
    later = PLAIN_QUIET + 1
    assert await api.updates(consumer="one", lease=60) == [update]


async def test_who_confirms_what_they_polled_goes_over_to_leases_at_once(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "tea?")
    (update,) = await api.updates()
    assert await api.updates(offset=update["update_id"] + 1, timeout=0) == []
    api.says(conversation, "coffee?")
    assert texts(await api.updates(consumer="one", lease=60)) == ["coffee?"]


async def test_a_consumer_that_waits_keeps_its_name_however_many_others_come(api: Api) -> None:
    conversation = await api.private()
    waiting = asyncio.create_task(api.updates(consumer="one", timeout=50))
    await until(lambda: bool(api.running.session.polling._waiting))
    for number in range(MAX_CONSUMERS):
        assert await api.updates(consumer=f"other {number}", timeout=0) == []
    api.says(conversation, "hello")
    given = await asyncio.wait_for(waiting, 5)
    assert await api.ok("confirmUpdates", consumer="one", update_ids=numbers(given)) == 1


async def test_a_lease_is_of_so_many_updates_and_no_more(api: Api) -> None:
    """What one event makes comes together, however much it is."""
    files = [api.world.relay.upload(b"x", content_type="text/plain", file_name=name) for name in "abc"]
    conversations = [await api.private() for _ in range(3)]
    for conversation in conversations:
        api.world.relay.say(api.alice, conversation.key, "three files", attachments=files)
    await until(lambda: api.running.session.account.inbox.waiting == 3)
    assert [len(await api.updates(consumer="one", limit=limit)) for limit in (7, 2)] == [6, 3]


async def test_nobody_confirms_what_another_has(api: Api) -> None:
    api.says(await api.private(), "hello")
    given = await api.updates(consumer="one", lease=60)
    assert await api.ok("confirmUpdates", consumer="two", update_ids=numbers(given)) == 0
    assert await api.ok("confirmUpdates", consumer="one", update_ids=numbers(given)) == 1


async def test_what_a_consumer_does_not_confirm_goes_to_another_when_its_lease_ends(api: Api) -> None:
    api.says(await api.private(), "hello")
    given = await api.updates(consumer="one", lease=1)
    assert await api.updates(consumer="two", lease=60, timeout=0) == []
    again = await api.updates(consumer="two", lease=60, timeout=20)
    assert again == given
    assert await api.ok("confirmUpdates", consumer="one", update_ids=numbers(given)) == 0
    assert await api.ok("confirmUpdates", consumer="two", update_ids=numbers(again)) == 1


async def test_what_a_consumer_fails_is_tried_again(api: Api) -> None:
    api.says(await api.private(), "hello")
    given = await api.updates(consumer="one")
    assert await api.ok("failUpdates", consumer="one", update_ids=numbers(given)) == 0
    assert await api.updates(consumer="two", timeout=10) == given


async def test_with_a_lease_there_is_no_offset(api: Api) -> None:
    status, told = await api.refused("getUpdates", lease=60, offset=5)
    assert (status, told) == (400, "Bad Request: with a lease there is no offset: use confirmUpdates")


# --- the window, without any I/O ---


def given_with(number: int, *updates: int) -> Given:
    event = MessageReceived(bytes(32), ServiceId.parse("9d0652a3-dcc3-4d11-975f-74d61598733f"), number, "")
    told = tuple({"update_id": update} for update in updates)
    return Given(Leased(number, event, 1, 0.0), told, tuple(map(str, updates)), until=100.0)


def test_an_event_is_over_when_its_last_update_is_confirmed() -> None:
    window = Window()
    window.add([given_with(1, 10, 11), given_with(2, 12)])
    assert window.confirm(11) == []
    assert window.updates(11, 100) == [{"update_id": 11}, {"update_id": 12}]
    assert [each.leased.number for each in window.confirm(12)] == [1]


def test_as_many_events_fit_as_their_updates_do_and_always_one() -> None:
    given = [given_with(1, 10, 11), given_with(2, 12), given_with(3, 13, 14)]
    assert [within(given, limit) for limit in (1, 2, 3, 4, 5, 100)] == [1, 1, 2, 2, 3, 3]


def test_what_is_nobodys_any_more_is_forgotten() -> None:
    window = Window()
    window.add([given_with(1, 10)])
    window.drop_ended(99.9)
    assert window.given
    window.drop_ended(100.0)
    assert not window.given


@given(
    events=st.lists(st.integers(1, 3), min_size=1, max_size=20),
    offsets=st.lists(st.integers(0, 60), max_size=10),
    limit=st.integers(1, 100),
)
def test_each_update_is_given_until_it_is_confirmed_and_never_after(
    events: list[int], offsets: list[int], limit: int
) -> None:
    window, last, made = Window(), 0, []
    for number, count in enumerate(events):
        made.append(given_with(number, *range(last + 1, last + 1 + count)))
        last += count
    window.add(made)
    confirmed = 0
    for offset in offsets:
        over = window.confirm(offset)
        confirmed = max(confirmed, offset)
        assert all(each.last < confirmed for each in over)
        expected = [number for number in range(1, last + 1) if number >= confirmed]
        assert [update["update_id"] for update in window.updates(confirmed, limit)] == expected[:limit]
