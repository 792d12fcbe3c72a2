"""Who promised what, what is asked of the viewer, what was decided, and when: by rules over English sentences.

A line that fits several kinds is of the first: ask, decision, promise, date.
"""

import re

from ai_enclave.features.conversation import Thread
from ai_enclave.features.limits import MOST_ACTIONS
from ai_enclave.features.lines import Line, LineKind, in_order, line_of, told
from ai_enclave.features.people import EVERYONE, People
from ai_enclave.features.score import content_words, in_turns, salience
from ai_enclave.features.sentences import Unit, units_of

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


def actions(thread: Thread, viewer: str) -> tuple[Line, ...]:
    """The lines of ``thread`` that call for doing or remembering something, in its order; when there are many, the
    latest of every sender.

    What the viewer asks for is theirs to remember and is left out; what the viewer promised is not.
    """
    people = People(thread, viewer)
    found = {
        id(unit): (unit, kind)
        for unit in units_of(thread, people.compared_names)
        if (kind := kind_of(unit, people)) is not None and told(unit, people)
    }
    kept = in_order(in_turns((unit for unit, _ in reversed(found.values())), MOST_ACTIONS))
    messages = len(thread.messages)
    return tuple(line_of(unit, people, found[id(unit)][1], salience(unit, messages)) for unit in kept)


def kind_of(unit: Unit, people: People) -> LineKind | None:
    """What ``unit`` is among actions, if anything."""
    if len(content_words(unit)) < MIN_CONTENT_WORDS:
        return None
    said = unit.text.replace("’", "'")
    if _ASK.search(said):
        return LineKind.ASK_OF_YOU if _is_asked(unit, people) else None
    if unit.asks:
        return None
    if _DECIDED.search(said) or (_DECISION.search(said) and not _OPEN.search(said)):
        return LineKind.DECISION
    if _PROMISE.search(said):
        return LineKind.COMMITMENT
    return LineKind.DATE if _DATE.search(said) and not _PAST.search(said) else None


def _is_asked(unit: Unit, people: People) -> bool:
    """Whether the viewer is: by name, between two people, after they spoke, or with all others ("can someone")."""
    if people.is_to_viewer(unit):
        return True
    words = set(unit.words)
    to_all = bool(EVERYONE & words) or ("you" not in words and not people.called_in(unit))
    return to_all and unit.message.author != people.viewer
