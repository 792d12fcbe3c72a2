"""The page on bots names what there is, all of it, and its snippets work."""

import re
from pathlib import Path

import pytest

from messaging.bots.methods import METHODS, NOT_SUPPORTED
from messaging.client.bot import Bot
from messaging.client.bot import settings as of_bots
from messaging.client.testing import Scene

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "bots.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def names_behind(heading: str) -> set[str]:
    """The names of methods in the paragraph that begins so."""
    [paragraph] = re.findall(rf"\*\*{re.escape(heading)}.*?\*\*(.*?)\n\n", TEXT, re.DOTALL)
    return {name.lower() for name in re.findall(r"\b[a-z]+[A-Z]\w+|\b(?:close|summarize)\b", paragraph)}


def test_every_method_is_listed_where_it_belongs() -> None:
    assert names_behind("Methods that are there") == {name for name, method in METHODS.items() if not method.ours}
    assert names_behind("Ours") == {name for name, method in METHODS.items() if method.ours}
    assert names_behind("501") == NOT_SUPPORTED


def test_every_test_that_is_named_is_there() -> None:
    named, file = 0, ROOT
    for path, test in re.findall(r"`(?:tests/)?((?:messaging|examples)/[\w/]*test_\w+\.py)?(?:::(test_\w+))?`", TEXT):
        if path:
            file = ROOT / "tests" / path
            assert file.is_file(), path
        if test:
            named += 1
            assert f"def {test}(" in file.read_text("utf-8"), f"{file.name}::{test}"
    assert named >= 25


def test_every_file_that_is_linked_is_there() -> None:
    for page in (ROOT / "docs" / "bots.md", ROOT / "examples" / "bots" / "README.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), link


def test_every_setting_of_a_bot_is_there() -> None:
    names = {value for value in vars(of_bots).values() if isinstance(value, str) and value.startswith("SUBROSA_")}
    assert len(names) >= 7
    for name in names:
        assert f"`{name}`" in TEXT, name


def test_the_first_bot_is_the_smallest_of_the_examples() -> None:
    assert SNIPPETS[0] == (ROOT / "examples" / "bots" / "echo.py").read_text("utf-8").partition('"""\n\n')[2]


async def test_the_snippet_for_tests_passes_with_the_bot_above_it() -> None:
    handlers, test = (next(each for each in SNIPPETS if what in each) for what in ('Bot("tea")', "Scene"))
    names: dict[str, object] = {}
    exec(handlers + test, names)  # noqa: S102  # the page is ours
    await names["test_tea"]()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "files", "answer"),
    [("I want coffee", [], "We do not speak of that."), ("", [("a.txt", b"a")], "Louder.")],
)
async def test_the_other_handlers_of_the_page_work(text: str, files: list[tuple[str, bytes]], answer: str) -> None:
    names: dict[str, object] = {}
    exec(next(each for each in SNIPPETS if 'Bot("tea")' in each), names)  # noqa: S102  # the page is ours
    bot = names["bot"]
    assert isinstance(bot, Bot)
    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, text, files=files)
        assert await scene.settled()
        assert chat.answers == [answer]
