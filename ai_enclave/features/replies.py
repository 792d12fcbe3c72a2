"""Replies that the viewer could send next: slot-filled intents, and the viewer's own short replies from before.

An intent is chosen by rules and by how near the message is to situations in which people answer so. The suggestions
differ in intent, so that one of them fits whatever the viewer wants to say. Nothing is sent by itself.

A reply is read by the others as an answer to whatever was said last, not only to the message it was made for. So
there is no reply at all while one of those messages asks for money, secrets or consent, or speaks to a machine:
falling back to an older, harmless message would let its author choose the question to which a "yes" is then read. The
price is that anybody can silence suggestions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ai_enclave.engine import Engine
from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.guard import Mark, is_answered, marks_of
from ai_enclave.features.limits import LOOK_BACK, LOOK_BACK_AT_THE_AUTHOR, MAX_READ, OWN_REPLIES, OWN_REPLY_WORDS
from ai_enclave.features.people import People
from ai_enclave.features.text import visible, words_of

RULE = 0.5  # what a matching rule adds to the nearness of a situation
OWN_BONUS = 0.05
MAX_RULED = 1000  # characters of a message that the rules for intents look at

# The only words of another person that a suggestion can hold: a time of day or a day, in one of these forms.
_TIME = re.compile(
    r"(?<![\w:./-])((?:[01]?\d|2[0-3]):[0-5]\d(?: ?[ap]m)?|(?:1[0-2]|[1-9]) ?[ap]m|noon|midnight|tonight|tomorrow"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day)(?![\w:/-]|\.\d)",
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


_NUMBER_WORD = re.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|null"
    r"|eins|zwei|drei|vier|un|deux|trois|quatre|uno|dos|tres|cuatro)\b",
    re.IGNORECASE,
)
_PRIVATE = re.compile(
    r"\b(?:street|road|avenue|lane|apartment|floor|door|stra(?:ss|ß)e"
    r"|weg|platz|rue|calle|avenida|password|passcode|code|pin|key|address"
    r"|passwort|kennwort|mot de passe|contraseña|clave)\b|(?:straße|strasse)\b",
    re.IGNORECASE,
)
_PLAIN_REPLY = re.compile(r"[^\W\d_]{1,20}(?:[ ,.!'’-]{1,3}[^\W\d_]{1,20})*[ .!]{0,3}[^\w.@/:\\]{0,4}")

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

    def suggest(self, thread: Thread, viewer: str, count: int = 3) -> tuple[Suggestion, ...]:
        """Up to ``count`` replies for ``viewer`` to what others said last; none to what must not be answered."""
        target = _target(People(thread, viewer))
        if target is None or count < 1:
            return ()
        text = visible(target.text[:MAX_RULED])
        own = _own_replies(thread, viewer)
        vectors = self._engine.encode([text, *(visible(before.text[:MAX_RULED]) for before, _ in own)])
        candidates = [*self._from_intents(text, vectors[0]), *_from_bank(own, vectors[0] @ vectors[1:].T)]
        return _different(candidates, count)

    def _from_intents(self, text: str, vector: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> list[Suggestion]:
        time = _TIME.search(text)
        found = []
        for intent, situations in zip(_INTENTS, self._situations, strict=True):
            score = float(np.max(situations @ vector)) + (RULE if intent.rule and intent.rule.search(text) else 0.0)
            reply = intent.reply_with_time.format(time=time[1]) if time and intent.reply_with_time else intent.reply
            found.append(Suggestion(reply[:1].upper() + reply[1:], intent.name, score))
        return found


def _target(people: People) -> Message | None:
    """What to answer: a late question to the viewer or to all, else the latest of the last messages that asks nothing.

    ``None`` if the reply would also be read as an answer to what must not be answered.
    """
    unanswered, recent = _heard_last(people.thread.messages, people.viewer)
    if not recent:
        return None
    words = {id(message): set(words_of(message.text[:MAX_RULED])) for message in recent}
    asking = [message for message in recent if unanswered and "?" in message.text]
    name = set(words_of(people.names.get(people.viewer or "", ""))[:1])
    for_viewer = [message for message in asking if name & words[id(message)]]
    for_all = [message for message in asking if not people.name_words & words[id(message)]]
    target = (for_viewer or for_all or [message for message in recent if "?" not in message.text] or recent)[-1]
    of_author = [message for message in unanswered if message.author == target.author]
    return target if all(_may_be_answered(message) for message in (*recent, *of_author)) else None


def _heard_last(messages: Sequence[Message], viewer: str | None) -> tuple[list[Message], list[Message]]:
    """What others said since the viewer did; and the last of it or, if that is nothing, of what they said before."""
    last_own = max((place for place, message in enumerate(messages) if message.author == viewer), default=-1)
    unanswered = [
        message for message in messages[last_own + 1 :][-LOOK_BACK_AT_THE_AUTHOR:] if _says_something(message)
    ]
    before = [
        message for message in messages[: max(last_own, 0)][-LOOK_BACK_AT_THE_AUTHOR:] if message.author != viewer
    ]
    return unanswered, (unanswered or [message for message in before if _says_something(message)])[-LOOK_BACK:]


def _says_something(message: Message) -> bool:
    return len(message.text) > MAX_READ or bool(words_of(message.text))


def _may_be_answered(message: Message) -> bool:
    """Whether the guard has read all of it and has nothing against an answer."""
    return len(message.text) <= MAX_READ and is_answered(visible(message.text))


def _own_replies(thread: Thread, viewer: str) -> list[tuple[Message, Message]]:
    """What the viewer answered before, briefly: pairs of a message and the reply to it, the latest."""
    pairs = [
        (before, reply)
        for before, reply in zip(thread.messages, thread.messages[1:], strict=False)
        if reply.author == viewer != before.author and _may_come_again(reply.text)
    ][-OWN_REPLIES:]
    return [pair for pair in pairs if _may_be_answered(pair[0])]


def _may_come_again(reply: str) -> bool:
    """Whether a reply is a few plain words: no digit, address, link or code, also none that is spelled out."""
    text = " ".join(reply[:MAX_RULED].split())
    return (
        len(reply) <= MAX_RULED
        and 0 < len(words_of(text)) <= OWN_REPLY_WORDS
        and _PLAIN_REPLY.fullmatch(text) is not None
        and len(_NUMBER_WORD.findall(text)) < 2
        and not _PRIVATE.search(text)
        and not any(word.isupper() and len(word) > 3 for word in text.split())
        and marks_of(text) <= {Mark.QUOTES_ANOTHER}
    )


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
