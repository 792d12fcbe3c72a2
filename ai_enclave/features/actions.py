"""Who promised what, what is asked of the viewer, what was decided, and when: as the engine judges, helped by rules for English.

A line that fits several kinds is of the first: ask, decision, promise, date.
"""

import re

from ai_enclave.features.guard import Mark
from ai_enclave.features.limits import MOST_ACTIONS
from ai_enclave.features.lines import Line, LineKind, in_order, line_of
from ai_enclave.features.people import People
from ai_enclave.features.reading import Reading
from ai_enclave.features.score import content_words, in_turns, salience
from ai_enclave.features.sentences import Unit

MIN_CONTENT_WORDS = 2  # a unit with fewer says neither what nor when

_ASK = re.compile(
    r"\bplease\b|\b(?:can|could|would|will|can't|couldn't) (?:you|someone|somebody|anyone|anybody|everyone|everybody)\b"
    r"|\b(?:need|want|like|ask) (?:you|everyone|everybody|someone|somebody) to\b"
    r"|\b(?:don't|do not) forget\b|\bmake sure\b"
    r"|\bremember to\b|\blet (?:me|us) know\b|\bremind (?:me|us)\b|\bwould you mind\b|\bcan i ask you\b"
    r"|\b(?:you|everyone|everybody) (?:should|must|have to|need to|needs to|has to)\b"
    r"|\b(?:bitte|por favor|s'il (?:te|vous) plaît)\b",
    re.IGNORECASE,
)
_PROMISE = re.compile(
    r"(?:^|[,;:.!–—-] ?|\b(?:and|so|then|but|ok|okay|yes|yeah|sure|fine|that) )"
    r"(?:i(?:'ll| will| can|'m going to| am going to| promise)|we(?:'ll| will)|let me)\b"
    r"(?!'| ?(?:not|never|only|see|imagine|understand|hear|feel|tell|be late|miss|be sick|know)\b)"
    r"|\b(?:leave (?:it|that|this) to me|count on me)\b",
    re.IGNORECASE,
)
_DECISION = re.compile(
    r"\b(?:decided|decision|agreed|settled|final|finali[sz]ed"
    r"|confirmed|moved to|postponed|rescheduled|cancel?led|booked"
    r"|we(?:'re| are) going with|we(?:'ll| will)? (?:go with|meet|take)|let's (?:go with|take|do|meet|say))\b",
    re.IGNORECASE,
)
_DECIDED = re.compile(
    r"^\W*(?:we(?:'ve| have)? |it's |it is )?(?:decided|agreed|settled|decision\b[^:]{0,40}:)", re.IGNORECASE
)
_OPEN = re.compile(
    r"\b(?:not|never|yet|if|whether|unless|undecided|maybe|perhaps|might|before we|until)\b|n't\b", re.IGNORECASE
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = re.compile(
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|today|tonight|tomorrow|noon|midnight|deadline|due (?:on|by|in)"
    r"|next (?:week|month|year)|end of (?:the |this |next )?(?:week|month|year)"
    r"|(?:[01]?\d|2[0-3]):[0-5]\d|\d{1,2} ?[ap]m"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}|{_MONTH} \d{{1,2}}"
    rf"|\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}})\b",
    re.IGNORECASE,
)
_PAST = re.compile(r"\b(?:yesterday|last (?:night|week|month|year|\w{3,6}day)|ago)\b", re.IGNORECASE)


def actions(reading: Reading) -> tuple[Line, ...]:
    """The lines that call for doing or remembering something, in the order of the thread; when there are many, the
    latest of every sender.

    What the viewer asks for is theirs to remember and is left out; what the viewer promised is not.
    """
    people = reading.people
    found = {
        id(unit): (unit, kind)
        for number, unit in enumerate(reading.units)
        if (kind := kind_of(number, reading)) is not None
    }
    kept = in_order(in_turns((unit for unit, _ in reversed(found.values())), MOST_ACTIONS))
    messages = len(people.thread.messages)
    return tuple(line_of(unit, people, found[id(unit)][1], salience(unit, messages)) for unit in kept)


def kind_of(number: int, reading: Reading) -> LineKind | None:
    """What a unit is among actions, if anything."""
    unit, people = reading.units[number], reading.people
    if len(content_words(unit)) < MIN_CONTENT_WORDS or Mark.INSTRUCTION in unit.marks:
        return None
    said = unit.text.replace("’", "'")
    asked, decided = bool(_ASK.search(said)), bool(_DECIDED.search(said))
    if reading.chance(number, "ask", ruled=asked) and (asked or not decided):
        return LineKind.ASK_OF_YOU if _is_asked(unit, people) else None
    if unit.asks:
        return None
    decided = decided or (bool(_DECISION.search(said)) and not _OPEN.search(said))
    if reading.chance(number, "decision", ruled=decided):
        return LineKind.DECISION
    if reading.chance(number, "commitment", ruled=bool(_PROMISE.search(said))):
        return LineKind.COMMITMENT
    dated = _DATE.search(said) and not _PAST.search(said)
    return LineKind.DATE if reading.chance(number, "date", ruled=bool(dated)) else None


def _is_asked(unit: Unit, people: People) -> bool:
    """Whether the viewer is: by name, between two people, after they spoke, or with all others ("can someone")."""
    return people.is_to_viewer(unit) or people.is_to_all(unit)
