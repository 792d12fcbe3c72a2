"""A scene tells a test the truth: whether all was handled, what failed, and what people see."""

import asyncio
from contextlib import suppress

import pytest

from messaging.client.bot import Bot, MessageContext
from messaging.client.errors import RelayUnreachable
from messaging.client.testing import Scene, StillBusy
from messaging.client.testing import scene as module


class Flaw(Exception):
    """What handlers of these tests raise."""


def a_bot(*, fails: int = 0) -> Bot:
    """Answers, after so many failures."""
    bot = Bot("x")

    @bot.message()
    async def handler(message: MessageContext) -> None:
        if message.attempt <= fails:
            raise Flaw
        await message.reply("yes")

    return bot


async def test_what_failed_is_not_settled_until_it_has_been_handled() -> None:
    async with Scene(a_bot(fails=2)) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea?")
        assert not await scene.settled()
        assert not await scene.passes(1)
        assert not ann.sees("yes")
        assert await scene.passes(2)
        assert ann.sees("yes")
        assert [type(each) for each in scene.errors] == [Flaw, Flaw]


async def test_what_is_parked_is_not_settled() -> None:
    async with Scene(a_bot(fails=100)) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "tea?")
        assert not await scene.passes(3600)
        assert len(await scene.parked()) == 1


async def test_a_handler_that_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    bot = Bot("x")

    @bot.message()
    async def handler(_: MessageContext) -> None:
        await asyncio.Event().wait()

    with suppress(Flaw):
        async with Scene(bot) as scene:
            ann = scene.person("Ann")
            await ann.writes(scene.private(ann), "tea?")
            with pytest.raises(StillBusy):
                await scene.settled()
            raise Flaw  # a test that fails does not wait for the handler


async def test_a_bot_that_cannot_start_is_told_of() -> None:
    bot = Bot("x")

    @bot.started()
    async def started() -> None:
        raise Flaw

    with pytest.raises(Flaw):
        async with Scene(bot):
            pass


async def test_who_was_not_there_sees_nothing() -> None:
    async with Scene(a_bot()) as scene:
        ann, bob = scene.person("Ann"), scene.person("Bob")
        chat = scene.private(ann)
        await ann.writes(chat, "tea?")
        assert await scene.settled()
        assert not bob.sees("tea?")
        await ann.adds(chat, bob)
        assert not bob.sees("tea?")  # it was said before


async def test_a_call_that_is_to_fail_fails_as_often_as_was_said() -> None:
    async with Scene(a_bot()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        scene.relay.fail_next("write", RelayUnreachable(), times=2)
        await ann.writes(chat, "tea?")
        await scene.settled()
        assert await scene.passes(60)
        assert [type(each) for each in scene.errors] == [RelayUnreachable, RelayUnreachable]
        assert chat.answers == ["yes"]
        with pytest.raises(ValueError, match="write"):
            scene.relay.fail_next("fly", Flaw())


async def test_time_passes_only_when_a_test_says_so() -> None:
    async with Scene(a_bot()) as scene:
        began = scene.clock.now()
        assert await scene.settled()
        assert scene.clock.now() == began
        await scene.passes(12.5)
        assert scene.clock.now() == began + 12_500


async def test_a_restart_keeps_what_was_not_handled() -> None:
    bot, go = Bot("x"), asyncio.Event()
    began = asyncio.Event()

    @bot.message()
    async def handler(message: MessageContext) -> None:
        began.set()
        await go.wait()
        await message.reply("yes")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea?")
        await began.wait()
        await scene.restart()
        go.set()
        assert await scene.settled()
        assert chat.answers == ["yes"]


async def test_a_scene_is_used_in_its_block() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = Scene(a_bot()).account
