"""getUpdates: what is given, when it comes again, and when it is over; for one poller as at Telegram, and for several with leases."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.feed import Given
from messaging.bots.limits import MAX_LISTED, MAX_OF_ONE_CHAT
from messaging.bots.polling import Window, of_one_chat
from messaging.client.bot.inbox import Leased
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


async def test_who_goes_over_to_leases_gets_what_was_polled_and_not_confirmed(api: Api) -> None:
    api.says(await api.private(), "tea?")
    assert texts(await api.updates()) == ["tea?"]
    assert texts(await api.updates(consumer="one", lease=60)) == ["tea?"]


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
