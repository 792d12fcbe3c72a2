"""The gateway's database: numbers are given once, mean one thing, and are there after a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.limits import MESSAGES_KEPT
from messaging.bots.numbers import Series
from messaging.bots.records import FIRST_BOT, FIRST_PERSON, LAST_BOT, Bot, Numbering, Records, Webhook, new_number
from messaging.bots.tokens import ALL, Token
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.identifiers import MessageId, ServiceId

BOT = 1_234_567_890
ME, ALICE, BOB = (ServiceId.parse(f"00000000-0000-4000-8000-00000000000{digit}") for digit in (1, 2, 3))


@pytest.fixture
async def db() -> AsyncIterator[StoreTransaction]:
    """A transaction."""
    async with Store.open(":memory:", bytes(32)) as store, store.transaction() as transaction:
        yield transaction


# --- series ---


@given(st.lists(st.text(max_size=3), max_size=40), st.one_of(st.none(), st.integers(1, 10)))
async def test_a_name_has_one_number_a_number_one_name_and_none_is_given_twice(
    names: list[str], kept: int | None
) -> None:
    async with Store.open(":memory:", bytes(32)) as store, store.transaction() as db:
        series = Series(("x",), first=100, kept=kept)
        given: list[int] = []
        model: dict[str, int] = {}
        for name in names:
            number = series.number(db, name)
            assert number == model.get(name, 100 + len(given))
            if name not in model:
                given.append(number)
                model[name] = number
            if kept is not None:
                model = {each: its for each, its in model.items() if its > given[-1] - kept}
        assert given == sorted(set(given))
        for name in set(names):
            assert series.find(db, name) == model.get(name)
        for name, number in model.items():
            assert series.name(db, number) == name


async def test_series_do_not_meet(db: StoreTransaction) -> None:
    assert Series(("a", "b")).number(db, "c") == 1
    assert Series(("a",)).find(db, "b") is None
    assert Series(("a", "b", "c")).number(db, "c") == 1


async def test_another_number_is_greater_than_all_before(db: StoreTransaction) -> None:
    series = Series(("x",))
    assert [series.number(db, "one"), series.number(db, "two")] == [1, 2]
    assert series.renew(db, "one") == 3
    assert series.name(db, 1) is None
    assert series.number(db, "three") == 4
    assert series.renew(db, "two", above=10) == 10
    assert series.renew(db, "two", above=5) == 11
    assert (series.last(db), series.number(db, "four")) == (11, 12)


async def test_a_series_that_is_bounded_forgets_what_it_leaves_behind(db: StoreTransaction) -> None:
    series = Series(("x",), kept=3)
    assert [series.number(db, name) for name in "abcd"] == [1, 2, 3, 4]
    assert series.renew(db, "b", above=6) == 6
    assert [series.find(db, name) for name in "abcd"] == [None, 6, None, 4]
    assert series.renew(db, "b", above=100) == 100
    assert [series.find(db, name) for name in "abcd"] == [None, 100, None, None]


# --- the numbers of a bot ---


async def test_the_bot_has_its_own_number(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    assert numbers.user(ME) == BOT
    assert numbers.service_id(BOT) == ME
    assert numbers.user(ALICE) == FIRST_PERSON
    assert numbers.service_id(FIRST_PERSON) == ALICE
    assert numbers.service_id(5) is None


async def test_the_first_chat_with_somebody_has_their_number_and_the_second_another(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    one, two = b"1" * 32, b"2" * 32
    assert numbers.chat(one, ALICE) == numbers.user(ALICE)
    assert numbers.chat(two, ALICE) > 0
    assert numbers.chat(two, ALICE) != numbers.user(ALICE)
    assert numbers.service_id(numbers.chat(two, ALICE)) is None


async def test_a_group_is_below_zero_and_a_chat_keeps_its_number(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    group, private = b"1" * 32, b"2" * 32
    number = numbers.chat(group, None)
    assert number < 0
    assert numbers.chat(group, ALICE) == number
    assert numbers.conversation(number) == group
    assert numbers.chat(private, BOB) == numbers.chat(private, None) > 0
    assert numbers.conversation(-number) is None


async def test_messages_count_in_each_chat_and_the_oldest_are_forgotten(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    messages = [MessageId(ALICE, timestamp) for timestamp in range(MESSAGES_KEPT + 2)]
    assert [numbers.message(-1, message) for message in messages] == list(range(1, MESSAGES_KEPT + 3))
    assert numbers.message(-2, messages[5]) == 1
    assert numbers.message_id(-1, 2) is None
    assert numbers.message_id(-1, 3) == messages[2]
    assert numbers.message_id(-1, MESSAGES_KEPT + 2) == messages[-1]


async def test_a_further_file_and_a_notice_have_numbers_of_their_own(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    message = MessageId(ALICE, 1)
    assert [numbers.message(1, message), numbers.message(1, message, 1), numbers.notice(1, "came")] == [1, 2, 3]
    assert numbers.message_id(1, 2) == message
    assert numbers.message_id(1, 3) is None


async def test_an_update_keeps_its_number_unless_it_would_be_confirmed_already(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    assert [numbers.update(name) for name in ("a", "b", "a")] == [1, 2, 1]
    assert numbers.update("a", above=1) == 1
    assert numbers.update("a", above=2) == 3
    assert numbers.update("a") == 3


async def test_an_update_gets_the_number_that_is_asked_for_if_its_own_is_less(db: StoreTransaction) -> None:
    numbers = Numbering(db, BOT, ME)
    assert [numbers.update("a"), numbers.update("a", above=1000), numbers.update("b")] == [1, 1000, 1001]
    assert numbers.last_update == 1001


async def test_one_thing_is_said_under_a_name(db: StoreTransaction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.bots.records.ONCE_KEPT", 2)
    numbers = Numbering(db, BOT, ME)
    assert [numbers.says_once("a", b"1"), numbers.says_once("a", b"2"), numbers.says_once("a", b"1")] == [
        True,
        False,
        True,
    ]
    assert [numbers.says_once(name, b"3") for name in "bc"] == [True, True]
    assert not numbers.says_once("b", b"1")
    assert numbers.says_once("a", b"2")  # it was forgotten for "c"


async def test_bots_do_not_share_numbers(db: StoreTransaction) -> None:
    one, two = Numbering(db, BOT, ME), Numbering(db, BOT + 1, BOB)
    one.user(ALICE)
    assert two.user(ME) == FIRST_PERSON
    assert one.conversation(two.chat(b"1" * 32, None)) is None


def test_a_new_bots_number_is_one_that_no_person_has() -> None:
    assert all(FIRST_BOT <= new_number() <= LAST_BOT < FIRST_PERSON for _ in range(1000))


# --- the database ---

WEBHOOK = Webhook("https://example.com/path", "whsec_eHg=", "told-once", 7)
FULL = Bot(
    number=BOT, name="Echo", username="echo_bot", relay="https://relay.example", ca="/ca.pem", description="d", about="a",
    allowed_updates=("message",), commands={"[]": [{"command": "start", "description": "begin"}]}, webhook=WEBHOOK,
    unfinished=True,
)  # fmt: skip


@pytest.mark.parametrize("bot", [FULL, Bot(number=1, name="x", username="x_bot")])
async def test_bots_and_tokens_are_there_after_a_restart(tmp_path: Path, bot: Bot) -> None:
    _, token = Token.make(bot.number, [ALL], now=5)
    async with Records.open(tmp_path / "gateway.db", bytes(32)) as records:
        await records.save_bot(bot)
        await records.save_tokens(token)
    async with Records.open(tmp_path / "gateway.db", bytes(32)) as records:
        assert await records.bots() == [bot]
        assert await records.tokens(bot.number) == [token]
        assert await records.delete_token(bot.number, token.id)
        assert not await records.delete_token(bot.number, token.id)
        assert await records.tokens(bot.number) == []


def test_nothing_secret_shows() -> None:
    for secret in ("example", "whsec_eHg=", "told-once"):
        assert secret not in repr(WEBHOOK)


async def test_nothing_readable_is_on_the_disk(tmp_path: Path) -> None:
    async with Records.open(tmp_path / "gateway.db", bytes(32)) as records:
        await records.save_bot(FULL)
    for path in tmp_path.iterdir():  # noqa: ASYNC240
        assert b"example.com" not in path.read_bytes()


async def test_work_that_fails_takes_nothing_with_it(tmp_path: Path) -> None:
    def fail(db: StoreTransaction) -> None:
        db.put("x", "half", record=b"")
        raise ValueError("half done")

    async with Records.open(tmp_path / "gateway.db", bytes(32)) as records:
        outcomes = await asyncio.gather(
            records.run(lambda db: db.put("x", "one", record=b"1")),
            records.run(fail),
            records.run(lambda db: db.put("x", "two", record=b"2")),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], ValueError)
        found = await records.run(lambda db: [db.get("x", name) for name in ("one", "half", "two")])
        assert found == [b"1", None, b"2"]
