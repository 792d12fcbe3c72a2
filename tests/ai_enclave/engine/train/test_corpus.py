"""The project's own chats are as their module says, and what is not so is refused with its place."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ai_enclave.engine.train.corpus import BadChat, read_chat, read_corpus

CHAT: dict[str, Any] = {
    "id": "family-001", "lang": "en", "people": ["Ann", "Bob", "Cem"],
    "messages": [["Ann", "Can you fetch Tim at 5?"], ["Bob", "Sure, I'll take the car", 0]],
    "summary": "Bob will fetch Tim at 5.", "key": [0, 1], "asks": [[0, "*"]], "questions": [[0, "Bob"]],
    "commitments": [1], "dates": [0], "decisions": [], "replies": [[1, "accept"]],
}  # fmt: skip


def test_a_chat_is_read() -> None:
    chat = read_chat(CHAT)
    assert chat.asks == {0: {"Bob", "Cem"}}
    assert chat.questions == {0: {"Bob"}}
    assert chat.messages[1].answers == 0
    assert not chat.held_out
    assert read_chat({**CHAT, "id": "family-005"}).held_out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lang": "it"}, "language"),
        ({"people": ["Ann"]}, "author"),
        ({"people": ["Ann", "Ann", "Bob"]}, "one twice"),
        ({"messages": [["Ann", "hi"]]}, "few"),
        ({"messages": [["Ann", " "], ["Bob", "x"]]}, "empty"),
        ({"messages": [["Ann", "x", 1], ["Bob", "x"]]}, "later"),
        ({"summary": ""}, "summary"),
        ({"key": []}, "key"),
        ({"key": [2]}, "place"),
        ({"asks": [[0, "Ann"]]}, "author"),
        ({"asks": [[0, "Zoe"]]}, "not there"),
        ({"asks": [[0]]}, "not there"),
        ({"replies": [[1, "sing"]]}, "intent"),
        ({"replies": [[0, "accept"]]}, "no reply"),
        ({"mood": "good"}, "unknown: mood"),
    ],
)
def test_what_is_not_so_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_chat({**CHAT, **change})


def test_a_fault_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(CHAT) + "\nnot json\n")
    with pytest.raises(BadChat, match=r"a\.jsonl, line 2"):
        read_corpus(tmp_path)
    (tmp_path / "a.jsonl").write_text((json.dumps(CHAT) + "\n") * 2)
    with pytest.raises(BadChat, match="same id"):
        read_corpus(tmp_path)


def test_there_are_as_many_chats_and_languages_as_the_data_card_says() -> None:
    chats = read_corpus()
    languages = Counter(chat.lang for chat in chats)
    assert len(chats) == 1115
    assert languages == {"en": 1064, "fr": 17, "de": 17, "es": 17}
    assert 0.15 < sum(chat.held_out for chat in chats) / len(chats) < 0.25
    assert {2, 3, 4, 5, 6, 7, 8, 9} <= {len(chat.people) for chat in chats}
    texts = Counter(" ".join(said.text for said in chat.messages) for chat in chats)
    assert max(texts.values()) == 1
