"""Reading is bounded, in whole words, and a repeated text is one text."""

from ai_enclave.features.limits import (
    LEAST_READ,
    MAX_READ,
    MAX_UNIT_CHARACTERS,
    MAX_UNIT_WORDS,
    MAX_UNITS,
    MAX_UNITS_OF_A_MESSAGE,
    MAX_WORD_CHARACTERS,
)
from ai_enclave.features.sentences import is_question, read, read_share, units_of
from tests.ai_enclave.features.threads import a_thread


def texts(*said: tuple[str, str]) -> list[str]:
    return [unit.text for unit in units_of(a_thread(*said))]


def test_a_message_is_its_sentences() -> None:
    assert texts(("ann", "It rains. Do we go?\nYes! ...")) == ["It rains.", "Do we go?", "Yes!"]


def test_a_long_sentence_is_cut_into_pieces_that_show_it() -> None:
    words = [f"w{number}" for number in range(MAX_UNIT_WORDS + 1)]
    assert texts(("ann", " ".join(words[:-1]))) == [" ".join(words[:-1])]
    assert texts(("ann", " ".join(words))) == [" ".join(words[:-1]) + " …", f"… {words[-1]}"]


def test_a_long_word_is_none() -> None:
    fits = "x" * MAX_WORD_CHARACTERS
    assert texts(("ann", f"a {fits} b")) == [f"a {fits} b"]
    assert texts(("ann", f"a {fits}x b")) == ["a … b"]


def test_a_unit_has_so_many_characters() -> None:
    assert all(len(text) <= MAX_UNIT_CHARACTERS + 4 for text in texts(("ann", " ".join(["x" * 150] * 20))))


def test_a_message_has_so_many_units() -> None:
    assert (
        len(texts(("ann", " ".join(f"Point {number}." for number in range(MAX_UNITS_OF_A_MESSAGE)))))
        == MAX_UNITS_OF_A_MESSAGE
    )
    assert len(texts(("ann", " ".join(f"Point {number}." for number in range(500))))) == MAX_UNITS_OF_A_MESSAGE


def test_a_message_is_read_so_far_and_in_whole_words() -> None:
    assert read("a" * MAX_READ, MAX_READ) == "a" * MAX_READ
    assert read("pay 240 euros", 6) == "pay …"
    assert (read_share(0), read_share(200), read_share(10_000)) == (MAX_READ, MAX_READ, LEAST_READ)


def test_a_flood_leaves_every_sender_an_equal_share() -> None:
    flood = [("eve", f"flood number {number}") for number in range(MAX_UNITS)]
    units = units_of(a_thread(("ann", "hello there"), *flood, ("bob", "good morning")))
    authors = [unit.message.author for unit in units]
    assert len(authors) <= MAX_UNITS
    assert (authors.count("ann"), authors.count("bob")) == (1, 1)
    assert units[-2].text == f"flood number {MAX_UNITS - 1}"  # the latest stay


def test_more_senders_than_units_leave_the_latest() -> None:
    units = units_of(a_thread(*((f"p{number}", f"hello {number}") for number in range(MAX_UNITS + 5))))
    assert len(units) == MAX_UNITS
    assert units[-1].message.author == f"p{MAX_UNITS + 4}"


def test_what_one_sender_repeats_counts_once_and_late() -> None:
    units = units_of(a_thread(("eve", "Buy now!"), ("ann", "buy now"), ("eve", "BUY NOW..."), ("eve", "Buy, now")))
    assert [(unit.message.author, unit.place) for unit in units] == [("ann", 1), ("eve", 3)]


def test_questions_end_so_in_many_scripts() -> None:
    assert all(map(is_question, ["Why?", "为什么？", "لماذا؟", 'He said "why?"', "Why? 🙂"]))
    assert not is_question("Why? Because.")
