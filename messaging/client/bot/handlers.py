"""What may be given to a bot: functions that can be awaited and take what they are given. Wrong ones are refused at once."""

import inspect


def check_async(function: object, *, takes: int, what: str) -> None:
    """See that ``function`` is async and can be called with ``takes`` arguments.

    Raises:
        TypeError: it is not, and what would be.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not callable(function):
        raise TypeError(f"{what} is a function: write @bot.…() with its parentheses, above `async def`")
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)):
        raise TypeError(f"{what} has to be async: write `async def {name}(…)`")
    try:
        inspect.signature(function).bind(*[None] * takes)
    except TypeError:
        raise TypeError(f"{what} takes {takes} argument{'' if takes == 1 else 's'}, and {name} does not") from None
