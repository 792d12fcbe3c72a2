"""Small chats with marks, and public corpora of two chats, for tests of the benchmarks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_enclave.engine.train.corpus import read_chat
from ai_enclave.engine.train.examples import thread_of
from benchmarks._corpora import Sample

CHAT: dict[str, Any] = {
    "id": "family-005",
    "lang": "en",
    "people": ["Ann", "Bob", "Cem"],
    "messages": [
        ["Ann", "Hello you two"],
        ["Ann", "Bob, can you fetch little Tim from the school at five?"],
        ["Bob", "Sure, I'll take the old car to the school", 1],
        ["Cem", "Great"],
        ["Cem", "We decided to paint the kitchen green on Saturday"],
        ["Bob", "Thanks!"],
    ],
    "summary": "Bob will take the old car and fetch Tim from school. They decided to paint the kitchen green.",
    "key": [2, 4],
    "asks": [[1, "Bob"]],
    "questions": [[1, "Bob"]],
    "commitments": [2],
    "dates": [1, 4],
    "decisions": [4],
    "replies": [[2, "accept"], [5, "thank"]],
}  # fmt: skip


def a_sample(**changes: Any) -> Sample:  # any part of it
    """One of the project's chats."""
    chat = read_chat({**CHAT, **changes})
    return Sample(chat.id, thread_of(chat), (chat.summary,), chat.lang, chat)


SAMSUM = [
    {
        "id": "1",
        "summary": "Amanda baked cookies.",
        "dialogue": "Amanda: I baked cookies. Do you want some?\r\nJerry: Sure!",
    },
    {
        "id": "2",
        "summary": "Liz is late.",
        "dialogue": "Liz: I'm late: the train\r\nagain\r\nMax: <file_photo>\r\nOla: ok",
    },
]
DIALOGSUM = [
    {
        "fname": "test_0",
        "dialogue": "#Person1#: Take a dictation, please.\n#Person2#: Yes, sir.",
        **{f"summary{number}": f"#Person1# dictates a memo, told in way {number}." for number in (1, 2, 3)},
        **{f"topic{number}": "memo" for number in (1, 2, 3)},
    }
]
QMSUM = {
    "meeting_transcripts": [
        {"speaker": "Project Manager", "content": "We start with the budget {vocalsound} of the remote."},
        {"speaker": "Marketing", "content": "It is twelve euros."},
        {"speaker": "Industrial Designer", "content": "{disfmarker}"},
        {"speaker": "Project Manager", "content": "Then we close the meeting."},
    ],
    "general_query_list": [{"query": "Summarize the meeting.", "answer": "They met."}],
    "specific_query_list": [
        {
            "query": "What of the budget?",
            "answer": "It is twelve euros.",
            "relevant_text_span": [["0", "1"], ["1", "2"]],
        },
        {"query": "What of nothing?", "answer": "Nothing.", "relevant_text_span": []},
    ],
}


def written(path: Path, data: object) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def as_jsonl(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    """A file with a line of JSON for each."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path
