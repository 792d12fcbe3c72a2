"""From remembered messages to a result: what the features say, with labels turned back into messages.

Messages get random labels for one request: a text cannot name another message, because nobody can know its label. Blocking, but
for ``compose``; no memory of its own.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from ai_enclave.engine import Reader, Writer
from ai_enclave.features import Digester, Line, Message, Suggester, Thread
from ai_enclave.features.composing import compose
from ai_enclave.features.labels import label_messages
from ai_enclave.limits import MAX_REPLIES
from ai_enclave.memory import Recalled
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    Coverage,
    QuestionsForMe,
    Replies,
    Reply,
    Scope,
    SuggestReplies,
    Summarize,
    Summary,
    SummaryLine,
)
from messaging.wire.identifiers import MessageId, ServiceId

NO_INSTRUCTIONS = hashlib.sha256(b"").digest()  # of an engine that follows none
WRITERS_SHARE = 0.7  # of the time that a requester waits: the rest is for answering without the writer
_MOST = 2**32 - 1  # that the wire can count


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Messages under labels that mean nothing outside this request."""

    thread: Thread = field(repr=False)
    ids: Mapping[str, MessageId]


class Answers:
    """What the engine has to say about messages."""

    def __init__(self, engine: Reader) -> None:
        self._digester = Digester(engine)
        self._suggester = Suggester(engine)

    def compute(self, requester: ServiceId, kind: AboutMessages, recalled: Recalled) -> Summary | Replies:
        """The answer to ``kind`` from what was recalled for it."""
        labelled = _label(recalled, kind.scope)
        viewer = str(requester)
        coverage = _coverage(recalled, kind.scope)
        match kind:
            case Summarize():
                lines = self._digester.digest(labelled.thread, viewer=viewer).lines
            case QuestionsForMe():
                lines = self._digester.questions(labelled.thread, viewer=viewer)
            case Actions():
                lines = self._digester.actions(labelled.thread, viewer=viewer)
            case SuggestReplies(_, count):
                suggestions = self._suggester.suggest(labelled.thread, viewer=viewer, count=min(count, MAX_REPLIES))
                return Replies(tuple(Reply(each.text, each.intent) for each in suggestions), coverage)
            case _:
                assert_never(kind)
        return Summary(tuple(_lines(lines, labelled.ids)), coverage)

    async def compose(
        self, writer: Writer, requester: ServiceId, kind: Summarize, recalled: Recalled, *, seconds: float
    ) -> Summary | None:
        """A summary in the words of ``writer``; ``None`` if it has none, and ``compute`` has to answer."""
        labelled = _label(recalled, kind.scope)
        lines = await compose(
            writer, labelled.thread, str(requester), tenant=requester.to_bytes(), seconds=seconds * WRITERS_SHARE
        )
        return Summary(tuple(_lines(lines, labelled.ids)), _coverage(recalled, kind.scope)) if lines else None


def _label(recalled: Recalled, scope: Scope) -> _Labelled:
    labels = label_messages(len(recalled.messages), secrets.token_bytes)
    messages = tuple(
        Message(label, str(held.id.author), held.id.timestamp, held.text, held.vectors)
        for label, held in zip(labels, recalled.messages, strict=True)
    )
    names = {str(author): name for author, name in scope.names.items()}
    thread = Thread(messages, names, recalled.members)
    return _Labelled(thread, dict(zip(labels, (held.id for held in recalled.messages), strict=True)))


def _lines(lines: Iterable[Line], ids: Mapping[str, MessageId]) -> Iterable[SummaryLine]:
    for line in lines:
        cites = tuple(ids[cite] for cite in line.cites)
        yield SummaryLine(line.text, line.kind, cites, ServiceId.parse(line.speaker), tuple(sorted(line.marks)))


def _coverage(recalled: Recalled, scope: Scope) -> Coverage:
    return Coverage(
        used=len(recalled.messages),
        not_opted_in=min(scope.not_opted_in + recalled.not_opted_in, _MOST),
        not_held=recalled.not_held,
        not_asked=scope.not_asked,
    )
