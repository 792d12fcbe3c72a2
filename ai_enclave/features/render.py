"""One unit as a line of a summary, in the third person where the rules are sure, else as a quotation: Name: "what was
said".

"I need trees" by Jonas is "Jonas needs trees". Only words of the message, names and the words of these rules appear,
and every line begins with its speaker: whatever a message says, it is that person who says it. What the rules do not
surely know they quote: a verb, "you" in a group, a second clause (``clauses``), what is said of another person, or marks
that could begin another's words. English only: other languages are quoted.
"""

import re
from itertools import pairwise

from ai_enclave.features.clauses import is_one_clause
from ai_enclave.features.names import looks
from ai_enclave.features.text import word_set

ASKS_IF, ASKS = "asks if", "asks:"
QUESTION_MARKS = ("?", "？", "؟")
# All words that a line can hold and its message does not, but for names and the "s" of a verb.
RULE_WORDS = word_set("asks if they them their theirs themselves is was has will would does doesn't hasn't goes")

_LEAD = re.compile(
    r"^(?:(?:hi|hey|hello|ok|okay|well|so|yeah|yes|yep|no|oh|haha"
    r"|lol|great|perfect|thanks|thank you|good|sure|cool|please"
    r"|morning|good morning|decision|and|but|then)(?: (?:all|everyone|everybody|guys|there))?[,.!:]+\s*)+",
    re.IGNORECASE,
)
_EMOJI = re.compile(r"[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]+")

_MODALS = ["can", "could", "will", "would", "should", "must", "may", "might", "can't", "won't", "couldn't", "wouldn't"]
_SAME = dict.fromkeys([*_MODALS, "cannot", "had", "was", "did", "didn't", "wasn't"])
_IRREGULAR = {"am": "is", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't", "go": "goes"}
_CONTRACTED = {"i'm": "is", "i'll": "will", "i've": "has", "i'd": "would"}
_ADVERBS = word_set("also just really still already never always only probably usually often finally then")
_PRESENT = word_set(
    "need want think hope like love know bring take make come see work feel believe guess suggest prefer agree "
    "remember wait live eat drive bake cook start leave send write call read plan try look get give ask mean help "
    "stay keep use wish vote propose promise"
)
_PAST = word_set(
    "went got took said told made came saw sent paid found bought thought left wrote gave heard felt kept met "
    "forgot brought put set lost spoke knew did had was read cut ate drove won"
)
_PRONOUNS = {"i": "they", "me": "them", "my": "their", "mine": "theirs", "myself": "themselves"}
_AUXILIARIES = word_set("do does did can could will would should shall is are was were have has had may must")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|\s+|.", re.DOTALL)
# TR39: what looks like two apostrophes; and the quotes of French and of CJK scripts.
_LIKE_DOUBLE_QUOTES = "(?:[\"“”„‟«»＂❝❞〝〞〟″‶‴‷⁗ʺˮ˝˶״﹁﹂『』「」〃]|''+|’’+|‘‘+)"
_DOUBLE_QUOTES, _OPENING = re.compile(_LIKE_DOUBLE_QUOTES), re.compile(_LIKE_DOUBLE_QUOTES + r"(?=\w)")
_UNSURE = re.compile(r"[\[\]{}<>‹›|—–;\\`*_#/@\"“”„‟«»]|:(?!\d)|(?<!\d):| - |\.\.|…|[?!.]\s|[?!]\w")
_ADDRESS = re.compile(r"[/@\d]|\w\.\w")
_PLACEHOLDER = re.compile(r"[<‹\[(][^<‹\[(]{0,40}[>›\])]")  # a photo that came as text
_NOT_VERBS = word_set("and or not both all guys two three folks people lot girls boys")
_OWN_VOICE = word_set("please we we're we'll we've we'd us our ours ourselves let's lets")
_BETWEEN = word_set("and or to for with in on at about from by tomorrow today tonight later too if")
_BARE = word_set("let make help see watch want to")  # after these a verb has no ending
_YOU = word_set("u ur ya yall y'all thee thou thy")  # and what begins with "you"
_NOT_YOU = word_set("young younger youngest youth")
_AFTER_WOULD = _PRESENT | word_set("be have rather go do")
_JOINS = word_set("and or but then")
_NO_VERB_FOLLOWS = word_set(
    "a an the my your our his her their no some any two three four i you he she it we they that not to"
)


def render(
    text: str,
    speaker: str,
    addressee: str | None = None,
    *,
    names: frozenset[str] = frozenset(),
    verbatim: bool = False,
) -> str:
    """``text`` by ``speaker`` as one line; empty if nothing is left to say.

    Args:
        text: visible and harmless, as a ``Unit`` has it.
        speaker: a display name.
        addressee: whom "you" means, if that is known.
        names: how the words of people's names look (``names.looks``): what is said of them is quoted.
        verbatim: quote in any case.
    """
    said = whole = without_emoji(text)
    said = (_LEAD.sub("", said) or said).strip()
    if not any(character.isalnum() for character in said) or _PLACEHOLDER.fullmatch(said):
        return ""
    asks = said.endswith(QUESTION_MARKS)
    in_one_piece = whole in " ".join(text.split())  # no emoji stands where a sentence may have ended
    if in_one_piece and not verbatim and _is_plain(said, names):
        told = _question(said, speaker, addressee) if asks else _first_person(said, speaker, addressee)
        if told is not None:
            return told
    return f"{speaker} {ASKS} {_quoted(said)}" if asks else f"{speaker}: {_quoted(said)}"


def without_emoji(text: str) -> str:
    """``text`` on one line, without emoji and symbols."""
    return " ".join(_EMOJI.sub(" ", text).split())


def inside_quotes(text: str) -> str:
    """``text`` without double quotes: single ones stand for them."""
    return _DOUBLE_QUOTES.sub("’", _OPENING.sub("‘", text))


def _quoted(said: str) -> str:
    """In quotes that nothing inside can end."""
    return f'"{_capital(inside_quotes(said))}"'


def _is_plain(said: str, names: frozenset[str]) -> bool:
    """Whether it is one sentence, without marks that could begin another's words, that says nothing of another person.

    What asks for something, or says "we", would be ours to say without quotes.

    A name at the end, or before a word that only joins, is no subject: "I will help you, Priya."
    """
    if _UNSURE.search(said.rstrip("?!. ")):
        return False
    tokens = _tokens(said)
    if any(_low(token) in _OWN_VOICE for token in tokens):
        return False
    for place, token in enumerate(tokens):
        following = _low(tokens[place + 2]) if place + 2 < len(tokens) and tokens[place + 1].isspace() else ""
        if following[:1].isalnum() and following not in _BETWEEN and _is_of(token, names):
            return False
    return True


def _is_of(token: str, names: frozenset[str]) -> bool:
    return not looks(_low(token).removesuffix("'s")).isdisjoint(names)


def _question(said: str, speaker: str, addressee: str | None) -> str | None:
    """A yes-or-no question to "you", between two people, becomes "asks if"; ``None`` where the rules are not sure."""
    tokens = _tokens(said.rstrip("? "))
    if len(tokens) < 5 or addressee is None or _low(tokens[0]) not in _AUXILIARIES or _low(tokens[2]) != "you":
        return None
    place = _verb_place(tokens, 4)
    auxiliary, verb = _low(tokens[0]), _low(tokens[place])
    asked = None if verb in _NOT_VERBS else _asked_verb(auxiliary, verb, "".join(tokens[4:place]))
    if asked is None or (auxiliary == "do" and _joins_a_verb(tokens[place + 1 :])):
        return None
    if not is_one_clause(verb, "".join(tokens[place + 1 :])):
        return None
    rest = _retell(tokens[place + 1 :], addressee, verb)
    return None if rest is None else f"{speaker} {ASKS_IF} {addressee} {asked}{rest}."


def _asked_verb(auxiliary: str, verb: str, adverbs: str) -> str | None:
    if auxiliary == "do":
        agreed = _agree(verb)
        return None if agreed is None else adverbs + agreed
    if auxiliary in ("can", "could", "will", "would", "should", "must", "may"):
        return f"{auxiliary} {adverbs}{verb}"
    if auxiliary in ("are", "were", "have"):
        return f"{ {'are': 'is', 'were': 'was', 'have': 'has'}[auxiliary] } {adverbs}{verb}"
    return None


def _first_person(said: str, speaker: str, addressee: str | None) -> str | None:
    """A statement that begins with I, as one about ``speaker``; ``None`` where the rules are not sure."""
    tokens = _tokens(said)
    first = _low(tokens[0])
    if first in _CONTRACTED:
        if first == "i'd" and not (len(tokens) > 2 and _low(tokens[2]) in _AFTER_WOULD):
            return None  # it may stand for "had"
        return _sentence(f"{speaker} {_CONTRACTED[first]}", tokens[1:], addressee, _CONTRACTED[first])
    if first != "i" or len(tokens) < 3:
        return None
    place = _verb_place(tokens, 2)
    verb = _low(tokens[place])
    agreed = _agree(verb)
    if agreed is None or (agreed != verb and _joins_a_verb(tokens[place + 1 :])):
        return None
    return _sentence(f"{speaker}{''.join(tokens[1:place])}{agreed}", tokens[place + 1 :], addressee, verb)


def _verb_place(tokens: list[str], place: int) -> int:
    """Where the verb stands, after adverbs."""
    while place + 2 < len(tokens) and _low(tokens[place]) in _ADVERBS:
        place += 2
    return place


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


def with_ending(verb: str) -> str:
    """The form that these rules give a word if it is a verb that they know, else the word."""
    return _agree(verb) or verb


def _joins_a_verb(rest: list[str]) -> bool:
    """Whether a second verb may follow that would have to agree, too: "and want". "And the" begins none."""
    words = [_low(token) for token in rest if token[0].isalnum()]
    return any(word in _JOINS and following not in _NO_VERB_FOLLOWS for word, following in pairwise(words))


def _sentence(start: str, rest: list[str], addressee: str | None, verb: str) -> str | None:
    told = _retell(rest, addressee, verb) if is_one_clause(verb, "".join(rest)) else None
    if told is None:
        return None
    sentence = start + told
    return sentence if sentence.endswith((".", "!", "…")) else sentence + "."


def _retell(tokens: list[str], addressee: str | None, verb: str) -> str | None:
    """The rest of a sentence after ``verb``: I and my are now they and their; you is the addressee.

    ``None`` where that is not known, or a verb is not sure.
    """
    words = [(place, _low(token)) for place, token in enumerate(tokens) if token[0].isalnum()]
    told = list(tokens)
    for number, (place, word) in enumerate(words):
        before = words[number - 1][1] if number else verb
        following = words[number + 1][1] if number + 1 < len(words) else ""
        if word in _PRONOUNS:
            told[place] = _PRONOUNS[word]
        elif (word.startswith("you") or word in _YOU) and word not in _NOT_YOU:
            retold = None if addressee is None else _of_you(word, addressee, before, following)
            if retold is None:
                return None
            told[place] = retold
    return "".join(told)


def _of_you(word: str, addressee: str, before: str, following: str) -> str | None:
    """What stands for "you"; ``None`` if a verb behind it might have to change, or the word is not known."""
    if word in ("your", "yours"):
        return f"{addressee}'s"
    if word != "you" or (following in _PRESENT and before not in _BARE):
        return None
    return addressee


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _low(token: str) -> str:
    return token.lower().replace("’", "'")


def _capital(text: str) -> str:
    """With a capital, unless the first word is an address, which stays as it is."""
    return text if _ADDRESS.search(text.split(" ", 1)[0]) else text[:1].upper() + text[1:]
