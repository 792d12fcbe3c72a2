"""What cannot be a handler is refused where it is defined, with a sentence that says what would be."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from messaging.client.bot import Bot


async def good(_: object) -> None:
    """A handler."""


async def of_two(_: object, __: object) -> None:
    """A middleware, or a handler of errors."""


async def of_none() -> None:
    """Called at the start."""


def not_async(_: object) -> None:
    """No handler."""


class Handling:
    """A handler that is no function."""

    async def __call__(self, _: object) -> None:
        """Handle."""


DECORATORS: list[Callable[[Bot], Callable[[Any], Any]]] = [
    lambda bot: bot.command("x"),
    lambda bot: bot.message(),
    lambda bot: bot.reaction(),
    lambda bot: bot.edited(),
    lambda bot: bot.deleted(),
    lambda bot: bot.members(),
    lambda bot: bot.joined(),
    lambda bot: bot.left(),
    lambda bot: bot.conversation(),
    lambda bot: bot.read(),
    lambda bot: bot.typing(),
    lambda bot: bot.timer("x"),
]


@pytest.mark.parametrize("decorator", DECORATORS)
def test_every_decorator_gives_the_function_back_and_refuses_what_is_no_handler(
    decorator: Callable[[Bot], Callable[[Any], Any]],
) -> None:
    bot = Bot("x")
    with pytest.raises(TypeError, match="has to be async: write `async def not_async"):
        decorator(bot)(not_async)
    for wrong in (of_none, of_two):
        with pytest.raises(TypeError, match="takes 1 argument, and"):
            decorator(bot)(wrong)
    assert decorator(bot)(good) is good


def test_callables_that_can_be_awaited_are_handlers_too() -> None:
    bot = Bot("x")
    bot.message()(Handling())
    bot.message()(partial(of_two, 1))


@pytest.mark.parametrize("wrong", [not_async, good])
def test_a_middleware_takes_two_arguments_and_is_async(wrong: "Callable[..., Any]") -> None:
    bot = Bot("x")
    with pytest.raises(TypeError, match="middleware"):
        bot.middleware(wrong)
    assert bot.middleware(of_two) is of_two
    with pytest.raises(TypeError, match="errors"):
        bot.error()(wrong)
    bot.error()(of_two)
    with pytest.raises(TypeError, match="start"):
        bot.started()(wrong)
    bot.started()(of_none)


def test_parentheses_that_were_forgotten_are_named() -> None:
    with pytest.raises(TypeError, match="parentheses"):
        Bot("x").message()("text")  # type: ignore[type-var]


def test_two_handlers_of_one_command_are_refused() -> None:
    bot = Bot("x")
    bot.command("start")(good)
    with pytest.raises(ValueError, match="'start' has a handler already"):
        bot.command("START")(good)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "..", "x" * 33])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 32 letters"):
        Bot(name)
