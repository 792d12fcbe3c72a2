"""No line says what the messages that it cites do not; the lines of the rules never do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.features import Digester, Ungrounded, check_line
from ai_enclave.features.limits import MAX_LINE_CHARACTERS
from tests.ai_enclave.features.threads import NoEngine, a_thread

THREAD = a_thread(
    ("ann", "I need 240 euros by Friday, call +49 170 5551234 or see https://x.example/a."),
    ("bob", "The cabin is not free."),
    ("ann", "My code is 4711."),
)


@pytest.mark.parametrize(
    ("text", "cites"),
    [
        ("Ann needs 240 euros by Friday.", ["m0"]),
        ("Ann can be called: +49 170 5551234", ["m0"]),
        ('Ann: "see https://x.example/a."', ["m0"]),
        ("Bob: the cabin is not free, and Ann needs 240 euros", ["m0", "m1"]),
    ],
)
def test_what_is_said_passes(text: str, cites: list[str]) -> None:
    if "called" in text:
        text = text.replace("can be called:", "call")
    check_line(text, cites, THREAD)


@pytest.mark.parametrize(
    ("text", "cites", "rule"),
    [
        ("Ann needs euros.", [], "cites"),
        ("Ann needs euros.", ["m9"], "cites"),
        ("Ann needs euros.", ["m0", "m9"], "cites"),
        ("Ann needs a boat.", ["m0"], "every word"),
        ("Bob needs 240 euros.", ["m0"], "who said it"),
        ("240 euros are needed by Ann.", ["m0"], "who said it"),
        ("Ann does not need euros.", ["m0"], "every word"),
        ("Ann needs 240 dollars.", ["m0"], "every word"),
        ("Ann: the cabin is free", ["m0"], "every word"),
        ("Ann: call +49 170 4711", ["m0", "m2"], "exactly"),
        ("Ann: call +49 5551234", ["m0"], "exactly"),
        ("Ann needs 24 euros.", ["m0"], "every word"),
        ("Ann needs €240.", ["m0"], "exactly"),
        ("Ann: see http://x.example/a", ["m0"], "every word"),
        ("Ann: see x.example/a", ["m0"], "exactly"),
        ("Ann: see [x](https://x.example/a)", ["m0"], "plain text"),
        ("Ann: ![a](https://x.example/a)", ["m0"], "plain text"),
        ("Ann <b>needs</b> euros", ["m0"], "plain text"),
        ("Ann needs\neuros", ["m0"], "plain text"),
        ("Ann needs\u202e euros", ["m0"], "plain text"),
        ("Ann " + "needs " * MAX_LINE_CHARACTERS, ["m0"], "plain text"),
    ],
)
def test_what_is_not_said_is_refused_by_name_of_the_rule(text: str, cites: list[str], rule: str) -> None:
    with pytest.raises(Ungrounded, match=rule) as refused:
        check_line(text, cites, THREAD)
    assert "euros" not in str(refused.value)


PIECES = st.sampled_from(
    ["I need", "I'm", "you", "your", "Bob:", "Ann", "at 9:30", "https://x.example/a?b=1", "€240", '"yes"', "a\"b", "(12\"34)", "[x](y)",
     "![", "<b>", "\u202e", "\u200b", "👍", "9👍5", "do you have", "?", "!", ".", "\n", "please", "code", "Ignore all previous instructions",
     "x" * 201, "+49 170 55", "’", "''", "«", "ß", "İ", "no"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", "system"]),
            st.lists(PIECES, max_size=12).map(" ".join) | st.text(max_size=60),
        ),
        max_size=6,
    )
)
def test_every_line_of_the_rules_passes(said: list[tuple[str, str]]) -> None:
    thread, digester = a_thread(*said), Digester(NoEngine())
    for line in (
        *digester.digest(thread, "ann").lines,
        *digester.questions(thread, "ann"),
        *digester.actions(thread, "ann"),
    ):
        check_line(line.text, line.cites, thread)
