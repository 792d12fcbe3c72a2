"""One unit as a line of a summary, in the third person where the rules are sure, else as "Name: what was said".

"I need trees" by Jonas is "Jonas needs trees". Only words of the message, names and the words of these rules appear. Where a
rule does not know a verb it does not guess. English only: other languages are quoted as they are.
"""

import re

ASKS_IF, ASKS = "asks if", "asks:"

_LEAD = re.compile(
    r"^(?:(?:hi|hey|hello|ok|okay|well|so|yeah|yes|yep|no|oh|haha|lol|great|perfect|thanks|thank you|good|sure|cool|please"
    r"|morning|good morning|decision|and|but|then)(?: (?:all|everyone|everybody|guys|there))?[,.!:]+\s*)+",
    re.IGNORECASE,
)
_EMOJI = re.compile(r"[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]+")

_MODALS = ["can", "could", "will", "would", "should", "must", "may", "might", "can't", "won't", "couldn't", "wouldn't"]
_SAME = dict.fromkeys([*_MODALS, "cannot", "had", "was", "did", "didn't", "wasn't"])
_IRREGULAR = {"am": "is", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't", "go": "goes"}
_CONTRACTED = {"i'm": "is", "i'll": "will", "i've": "has", "i'd": "would"}
_ADVERBS = frozenset(
    [
        "also",
        "just",
        "really",
        "still",
        "already",
        "never",
        "always",
        "only",
        "probably",
        "usually",
        "often",
        "finally",
        "then",
    ]
)
_PRESENT = frozenset(
    [
        "need",
        "want",
        "think",
        "hope",
        "like",
        "love",
        "know",
        "bring",
        "take",
        "make",
        "come",
        "see",
        "work",
        "feel",
        "believe",
        "guess",
        "suggest",
        "prefer",
        "agree",
        "remember",
        "wait",
        "live",
        "eat",
        "drive",
        "bake",
        "cook",
        "start",
        "leave",
        "send",
        "write",
        "call",
        "read",
        "plan",
        "try",
        "look",
        "get",
        "give",
        "ask",
        "mean",
        "help",
        "stay",
        "keep",
        "use",
        "wish",
        "vote",
        "propose",
        "promise",
    ]
)
_PAST = frozenset(
    [
        "went",
        "got",
        "took",
        "said",
        "told",
        "made",
        "came",
        "saw",
        "sent",
        "paid",
        "found",
        "bought",
        "thought",
        "left",
        "wrote",
        "gave",
        "heard",
        "felt",
        "kept",
        "met",
        "forgot",
        "brought",
        "put",
        "set",
        "lost",
        "spoke",
        "knew",
        "did",
        "had",
        "was",
        "read",
        "cut",
        "ate",
        "drove",
        "won",
    ]
)
_PRONOUNS = {"i": "they", "me": "them", "my": "their", "mine": "theirs", "myself": "themselves"}
_LATER = {"i'm": "they're", "i'll": "they'll", "i've": "they've", "i'd": "they'd"}
_AUXILIARIES = frozenset(
    [
        "do",
        "does",
        "did",
        "can",
        "could",
        "will",
        "would",
        "should",
        "shall",
        "is",
        "are",
        "was",
        "were",
        "have",
        "has",
        "had",
        "may",
        "must",
    ]
)
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|\s+|.", re.DOTALL)


def render(text: str, speaker: str, addressee: str | None = None) -> str:
    """``text`` by ``speaker``; ``addressee`` is whom "you" means, if that is known. Empty if nothing is left to say."""
    said = " ".join(_EMOJI.sub(" ", text).split())
    said = (_LEAD.sub("", said) or said).strip()
    if not any(character.isalnum() for character in said):
        return ""
    if said.endswith("?"):
        return _question(said, speaker, addressee)
    return _first_person(said, speaker, addressee) or f"{speaker}: {_capital(said)}"


def _question(said: str, speaker: str, addressee: str | None) -> str:
    """Yes-or-no questions to "you", between two people, become "asks if"; every other keeps its words and their order."""
    tokens = _tokens(said.rstrip("? "))
    if len(tokens) >= 5 and addressee is not None and _low(tokens[0]) in _AUXILIARIES and _low(tokens[2]) == "you":
        verb = _asked_verb(_low(tokens[0]), _low(tokens[4]))
        if verb is not None:
            rest = _replace(tokens[5:], addressee)
            return f"{speaker} {ASKS_IF} {addressee} {verb}{rest}."
    return f'{speaker} {ASKS} "{_capital(said)}"'


def _asked_verb(auxiliary: str, verb: str) -> str | None:
    if auxiliary == "do":
        return _agree(verb)
    if auxiliary in ("can", "could", "will", "would", "should", "must", "may"):
        return f"{auxiliary} {verb}"
    if auxiliary in ("are", "were", "have"):
        return f"{ {'are': 'is', 'were': 'was', 'have': 'has'}[auxiliary] } {verb}"
    return None


def _first_person(said: str, speaker: str, addressee: str | None) -> str | None:
    """A statement that begins with I, as one about ``speaker``; ``None`` where the rules are not sure."""
    tokens = _tokens(said)
    first = _low(tokens[0])
    if first in _CONTRACTED:
        return _sentence(f"{speaker} {_CONTRACTED[first]}", tokens[1:], addressee)
    if first != "i" or len(tokens) < 3:
        return None
    place = 2
    while place + 2 < len(tokens) and _low(tokens[place]) in _ADVERBS:
        place += 2
    verb = _agree(_low(tokens[place]))
    if verb is None:
        return None
    return _sentence(f"{speaker}{''.join(tokens[1:place])}{verb}", tokens[place + 1 :], addressee)


def _agree(verb: str) -> str | None:
    """The form after a name: needs, has, called; ``None`` for a verb that the rules do not know."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb in _SAME or verb in _PAST or (verb.endswith("ed") and len(verb) > 4):
        return verb
    if verb not in _PRESENT:
        return None
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


def _sentence(start: str, rest: list[str], addressee: str | None) -> str:
    sentence = start + _replace(rest, addressee)
    return sentence if sentence.endswith((".", "!", "…")) else sentence + "."


def _replace(tokens: list[str], addressee: str | None) -> str:
    """The rest of a sentence: I and my are now they and their; you is the addressee, if known."""
    return "".join(_third(token, addressee) for token in tokens)


def _third(token: str, addressee: str | None) -> str:
    low = _low(token)
    if low in _PRONOUNS:
        return _PRONOUNS[low]
    if low in _LATER:
        return _LATER[low]
    if low == "am":
        return "are"
    if addressee is not None:
        if low == "you":
            return addressee
        if low == "your":
            return f"{addressee}'s"
    return token


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _low(token: str) -> str:
    return token.lower().replace("’", "'")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
