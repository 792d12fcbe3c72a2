"""Replies that the viewer could send next: slot-filled intents, and the viewer's own short replies from before.

An intent is chosen by rules and by how near the message is to situations in which people answer so. The suggestions differ in
intent, so that one of them fits whatever the viewer wants to say. Nothing is sent by itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ai_enclave.engine import Engine
from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.guard import asks_for_secrets, is_instruction, visible
from ai_enclave.features.sentences import words_of

OWN_REPLY_WORDS = 8  # a longer message of the viewer's is not offered again
OWN_REPLIES = 50  # looked at, the latest
LOOK_BACK = 6  # messages before the end in which an unanswered question is looked for
RULE = 0.5  # what a matching rule adds to the nearness of a situation
OWN_BONUS = 0.05

_TIME = re.compile(
    r"\b(\d{1,2}[:.]\d{2}(?: ?[ap]m)?|\d{1,2} ?[ap]m|noon|midnight|tonight|tomorrow"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"\b(?:do|does|did|can|could|will|would|should|shall|is|are|was|were|have|has|may|am)(?:n't)?\b[^?.!]*\?",
    re.IGNORECASE,
)
_WH = re.compile(r"\b(?:what|which|who|whom|whose|where|when|why|how)\b[^?.!]*\?", re.IGNORECASE)
_WHEN = re.compile(r"\b(?:when|what time)\b[^?.!]*\?", re.IGNORECASE)
_PROPOSAL = re.compile(r"\b(?:let's|lets|shall we|should we|how about|what about|why don't we)\b", re.IGNORECASE)
_OFFER = re.compile(r"\bi(?:'ll| will| can)\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(?:thanks|thank you|thx)\b", re.IGNORECASE)
_TROUBLE = re.compile(
    r"\b(?:sorry|broken|ill|sick|late|delay\w*|cancel\w*|problem|unfortunately|lost|missed)\b", re.IGNORECASE
)
_DONE = re.compile(r"\b(?:done|paid|booked|ready|confirmed|fixed|arrived|complete|finished|sent)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One reply; ``intent`` says what it does."""

    text: str = field(repr=False)
    intent: str
    score: float


@dataclass(frozen=True, slots=True)
class _Intent:
    """A way to answer: the situations it fits, by rule and by example; ``{time}`` is filled from the message."""

    name: str
    rule: re.Pattern[str] | None
    situations: tuple[str, ...]
    reply: str
    reply_with_time: str = ""


_INTENTS = (
    _Intent(
        "accept",
        _YES_NO,
        ("Does that work for you?", "Can you do it?"),
        "Yes, that works for me.",
        "Yes, {time} works for me.",
    ),
    _Intent(
        "decline",
        _YES_NO,
        ("Does that work for you?", "Can you come?"),
        "Sorry, that doesn't work for me.",
        "Sorry, {time} doesn't work for me.",
    ),
    _Intent("defer", _YES_NO, ("Are you sure about that?", "Do you know yet?"), "Let me check and get back to you."),
    _Intent("ask back", _WH, ("What do you think?", "Which one do you mean?"), "I'm not sure. What do you suggest?"),
    _Intent("find out", _WH, ("Who knows where it is?", "How much does it cost?"), "I don't know yet, I'll find out."),
    _Intent("any time", _WHEN, ("When shall we meet?", "What time is good for you?"), "Any time works for me."),
    _Intent(
        "agree",
        _PROPOSAL,
        ("Let's do it on Saturday.", "Shall we go there?"),
        "Sounds good to me!",
        "{time} sounds good to me!",
    ),
    _Intent(
        "another idea",
        _PROPOSAL,
        ("How about we do that?",),
        "Could we do something else instead?",
        "Could we find another time than {time}?",
    ),
    _Intent("thank", _OFFER, ("I can do that for you.", "I will bring it."), "Thank you, that helps a lot!"),
    _Intent("offer help", _OFFER, ("I'll take care of it.", "There is a lot to do."), "Can I help with anything?"),
    _Intent("welcome", _THANKS, ("Thank you so much!",), "You're welcome!"),
    _Intent("sympathy", _TROUBLE, ("Sorry, it is broken.", "I am ill today."), "Oh no, I'm sorry to hear that."),
    _Intent("glad", _DONE, ("It is done!", "Everything is booked and paid."), "That's great news!"),
    _Intent(
        "acknowledge",
        None,
        ("Just so you know, it starts later.", "Here is the plan for today."),
        "Got it, thanks.",
        "Got it, {time}.",
    ),
    _Intent("next step", None, ("The first part is finished.", "We decided what to do."), "What should we do next?"),
    _Intent("more", None, ("Something interesting happened.", "I have an idea."), "Can you tell me more?"),
)


class Suggester:
    """Suggests replies with an engine. Deterministic."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        situations = [situation for intent in _INTENTS for situation in intent.situations]
        vectors = iter(engine.encode(situations))
        self._situations = [np.stack([next(vectors) for _ in intent.situations]) for intent in _INTENTS]

    def suggest(self, thread: Thread, *, viewer: str, count: int = 3) -> tuple[Suggestion, ...]:
        """Up to ``count`` replies to what others said last; none to what the guard does not want answered."""
        target = _target(thread, viewer)
        if target is None or count < 1:
            return ()
        own = _own_replies(thread, viewer)
        vectors = self._engine.encode([visible(target.text), *(before.text for before, _ in own)])
        candidates = [*self._from_intents(target, vectors[0]), *_from_bank(own, vectors[0] @ vectors[1:].T)]
        return _different(candidates, count)

    def _from_intents(
        self, target: Message, vector: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"
    ) -> list[Suggestion]:
        text = visible(target.text)
        time = _TIME.search(text)
        found = []
        for intent, situations in zip(_INTENTS, self._situations, strict=True):
            score = float(np.max(situations @ vector)) + (RULE if intent.rule and intent.rule.search(text) else 0.0)
            reply = intent.reply_with_time.format(time=time[1]) if time and intent.reply_with_time else intent.reply
            found.append(Suggestion(reply[:1].upper() + reply[1:], intent.name, score))
        return found


def _target(thread: Thread, viewer: str) -> Message | None:
    """What to answer: a late question to the viewer or to all, else the last thing that somebody else said."""
    others = [message for message in thread.messages if message.author != viewer and words_of(message.text)]
    if not others:
        return None
    last_own = max((place for place, message in enumerate(thread.messages) if message.author == viewer), default=-1)
    unanswered = [message for message in thread.messages[last_own + 1 :][-LOOK_BACK:] if message in others]
    name = thread.name_of(viewer).lower()
    others_names = {thread.name_of(message.author).lower() for message in others}
    for_viewer = [message for message in unanswered if "?" in message.text and name in words_of(message.text)]
    for_all = [
        message for message in unanswered if "?" in message.text and not others_names & set(words_of(message.text))
    ]
    target = (for_viewer or for_all or [message for message in others if "?" not in message.text] or others)[-1]
    return None if is_instruction(target.text) or asks_for_secrets(target.text) else target


def _own_replies(thread: Thread, viewer: str) -> list[tuple[Message, Message]]:
    """What the viewer answered before, briefly: pairs of a message and the reply to it."""
    pairs = [
        (before, reply)
        for before, reply in zip(thread.messages, thread.messages[1:], strict=False)
        if reply.author == viewer != before.author
        and 0 < len(words_of(reply.text)) <= OWN_REPLY_WORDS
        and "?" not in reply.text
        and not any(character.isdigit() for character in reply.text)
        and not asks_for_secrets(before.text)
    ]
    return pairs[-OWN_REPLIES:]


def _from_bank(own: Sequence[tuple[Message, Message]], nearness: Sequence[float]) -> list[Suggestion]:
    return [
        Suggestion(" ".join(visible(reply.text).split()), "as before", float(near) + OWN_BONUS)
        for (_, reply), near in zip(own, nearness, strict=True)
    ]


def _different(candidates: Sequence[Suggestion], count: int) -> tuple[Suggestion, ...]:
    """The best of each intent, at most ``count``, no text twice."""
    chosen: dict[str, Suggestion] = {}
    texts: set[str] = set()
    for candidate in sorted(candidates, key=lambda suggestion: -suggestion.score):
        folded = candidate.text.casefold()
        if candidate.intent not in chosen and folded not in texts:
            chosen[candidate.intent] = candidate
            texts.add(folded)
    return tuple(chosen.values())[:count]
