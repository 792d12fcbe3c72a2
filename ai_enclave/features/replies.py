"""Replies that the viewer could send next: slot-filled intents, and the viewer's own short replies from before.

An intent is chosen by what the engine learned of how people answer, and by rules. The suggestions
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

from ai_enclave.engine import Reader
from ai_enclave.engine.interface import INTENTS, Vectors
from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.guard import Mark, is_answered, marks_of
from ai_enclave.features.hints import hints_of
from ai_enclave.features.limits import (
    CONTEXT,
    LOOK_BACK,
    LOOK_BACK_AT_THE_AUTHOR,
    MAX_READ,
    OWN_REPLIES,
    OWN_REPLY_WORDS,
)
from ai_enclave.features.people import People
from ai_enclave.features.phrases import phrases_for
from ai_enclave.features.reading import vectors_of
from ai_enclave.features.sentences import units_of
from ai_enclave.features.text import visible, words_of

RULE = 0.3  # what a matching rule adds to the chance of an intent
LEAST_CHANCE = 0.003  # an intent that is less likely is not suggested, unless a rule says so
OWN_WEIGHT = 0.5  # what the nearness of a situation counts, in which the viewer said the same
OWN_LEAST = 0.55  # a situation that is less near tells nothing
MAX_RULED = 1000  # characters of a message that the rules for intents look at

# The only words of another person that a suggestion can hold: a time of day or a day, in one of these forms.
_TIME = re.compile(
    r"(?<![\w:./-])((?:[01]?\d|2[0-3]):[0-5]\d(?: ?[ap]m)?|(?:1[0-2]|[1-9]) ?[ap]m|noon|midnight|tonight|tomorrow"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day)(?![\w:/-]|\.\d)",
    re.IGNORECASE,
)
_WH = re.compile(
    r"\b(?:what|which|who|whom|whose|where|when|why|how|wer|wo|wann|warum|wie|welche\w*|qui|quand|où|pourquoi|comment|combien"
    r"|qué|quién|dónde|cuándo|cómo|cuánto)\b[^?.!]*\?",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"\?")
_WHEN = re.compile(r"\b(?:when|what time|wann|quand|à quelle heure|cuándo|a qué hora)\b[^?.!]*\?", re.IGNORECASE)
_PROPOSAL = re.compile(r"\b(?:let's|lets|shall we|should we|how about|what about|why don't we)\b", re.IGNORECASE)
_OFFER = re.compile(r"\bi(?:'ll| will| can)\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(?:thanks|thank you|thx|merci|danke|gracias)\b", re.IGNORECASE)
_TROUBLE = re.compile(
    r"\b(?:sorry|broken?|ill|sick|late|delay\w*|cancel\w*|problem|unfortunately|lost|missed|died|dead|death|funeral|accident|hospital|failed"
    r"|mort\w?|malade|hôpital|gestorben|krank|unfall|krankenhaus|murió|enferm\w|accidente)\b",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"\b(?:done|paid|booked|ready|confirmed|fixed|arrived|complete|finished|sent|passed|won|pregnant|engaged|got the|hired"
    r"|réussi|gagné|geschafft|bestanden|aprobado|ganado)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One reply; ``intent`` says what it does."""

    text: str = field(repr=False)
    intent: str
    score: float


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

# Which intents of the engine a rule makes likelier.
_RULES = (
    (_WHEN, ("time",)),
    (_WH, ("ask", "inform")),
    (_PROPOSAL, ("accept", "propose")),
    (_OFFER, ("thank", "offer")),
    (_THANKS, ("welcome",)),
    (_TROUBLE, ("sympathy",)),
    (_DONE, ("glad",)),
)
_NO_WH = ("accept", "decline", "defer")  # what answers a question that is none of these


class Suggester:
    """Suggests replies with an engine. Deterministic."""

    def __init__(self, engine: Reader) -> None:
        self._engine = engine

    def suggest(self, thread: Thread, viewer: str, count: int = 3) -> tuple[Suggestion, ...]:
        """Up to ``count`` replies for ``viewer`` to what others said last; none to what must not be answered."""
        target = _target(People(thread, viewer))
        if target is None or count < 1:
            return ()
        text = visible(target.text[:MAX_RULED])
        own = _own_replies(thread, viewer)
        vectors = self._engine.encode([text, *(visible(before.text[:MAX_RULED]) for before, _ in own)])
        candidates = [*self._from_intents(thread, target, text), *_from_bank(own, vectors[0] @ vectors[1:].T)]
        return _different(candidates, count)

    def _from_intents(self, thread: Thread, target: Message, text: str) -> list[Suggestion]:
        chances = dict(zip(INTENTS, self._chances(thread, target), strict=True))
        for intent in _ruled(text):
            chances[intent] += RULE
        if not _WH.search(text):
            del chances["inform"]  # nobody asked for a fact
        time = _TIME.search(text)
        phrases = phrases_for([message.text for message in thread.messages[-CONTEXT:]])
        return [
            Suggestion(reply, intent, chance)
            for intent, chance in chances.items()
            if chance >= LEAST_CHANCE and (reply := phrases.reply(intent, time[1] if time else None))
        ]

    def _chances(self, thread: Thread, target: Message) -> Vectors:
        """What a reply to ``target`` does, as it looked when nothing was said after it: (INTENTS,)."""
        end = next(place for place, message in enumerate(thread.messages) if message is target) + 1
        before = Thread(thread.messages[max(0, end - CONTEXT) : end], thread.names, thread.members)
        people = People(before)
        units = units_of(before, people.compared_names)
        if not units:
            return np.full(len(INTENTS), 1 / len(INTENTS), dtype=np.float32)
        hints = hints_of(units, before, people.name_words)
        chances: Vectors = self._engine.judge(vectors_of(self._engine, units), hints).intents[-1]
        return chances


def _ruled(text: str) -> list[str]:
    """The intents that rules make likelier."""
    ruled = [intent for rule, intents in _RULES if rule.search(text) for intent in intents]
    return [*ruled, *(_NO_WH if _QUESTION.search(text) and not _WH.search(text) else ())]


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
        Suggestion(" ".join(visible(reply.text).split()), "as before", float(near) * OWN_WEIGHT)
        for (_, reply), near in zip(own, nearness, strict=True)
        if near >= OWN_LEAST
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
