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
from ai_enclave.features.retell import is_kind, retell
from ai_enclave.features.text import word_set
from ai_enclave.features.verbs import ADVERBS, AFTER_WOULD, BARE, CONTRACTED, PRESENT, agree, as_token, tokens_of

ASKS_IF, ASKS = "asks if", "asks:"
QUESTION_MARKS = ("?", "？", "؟")
# All words that a line can hold and its message does not, but for names and the "s" of a verb.
RULE_WORDS = word_set(
    "asks if they them their theirs themselves is was has will would does doesn't hasn't isn't wasn't goes"
)

_LEAD = re.compile(
    r"^(?:(?:hi|hey|hello|ok|okay|well|so|yeah|yes|yep|no|oh|haha"
    r"|lol|great|perfect|thanks|thank you|good|sure|cool|please"
    r"|morning|good morning|decision|and|but|then)(?: (?:all|everyone|everybody|guys|there))?[,.!:]+\s*)+",
    re.IGNORECASE,
)
# What shows a mood and says nothing. Signs that may say something stay: ❌ ⛔ 🚫 ✅, arrows, mathematics, digits in circles.
_EMOJI = re.compile(
    "[\u2600-\u26d3\u26d5-\u26ff\u2728\u2763\u2764\u2b50\ufe0f\U0001f300-\U0001f51e\U0001f520-\U0001f6aa\U0001f6ac-\U0001faff]+"
)
_EMOTICON = re.compile(r"(?:^|(?<=\s))(?:[:;=][-']?[)(DPpOo/\\|*]+|[xX]D+|\^\^|:[)(]+)(?=\s|$|[.!?,])")

_PRONOUNS = {"i": "they", "me": "them", "my": "their", "mine": "theirs", "myself": "themselves"}
_AUXILIARIES = word_set("do does did can could will would should shall is are was were have has had may must")
# TR39: what looks like two apostrophes; and the quotes of French and of CJK scripts.
_LIKE_DOUBLE_QUOTES = "(?:[\"“”„‟«»＂❝❞〝〞〟″‶‴‷⁗ʺˮ˝˶״﹁﹂『』「」〃]|''+|’’+|‘‘+)"
_DOUBLE_QUOTES, _OPENING = re.compile(_LIKE_DOUBLE_QUOTES), re.compile(_LIKE_DOUBLE_QUOTES + r"(?=\w)")
_UNSURE = re.compile(r"[\[\]{}<>‹›|—–;\\`*_#/@\"“”„‟«»]|:(?!\d)|(?<!\d):| - |\.\.|…|[?!.]\s|[?!]\w")
_ADDRESS = re.compile(r"[/@\d$€£¥₹₿]|\w\.\w")
_PLACEHOLDER = re.compile(r"[<‹\[(][^<‹\[(]{0,40}[>›\])]")  # a photo that came as text
_NOT_VERBS = word_set("and or not both all guys two three folks people lot girls boys")
_OWN_VOICE = word_set("please we we're we'll we've we'd us our ours ourselves let's lets")
_YOU = word_set("u ur ya yall y'all thee thou thy")  # and what begins with "you"
_NOT_YOU = word_set("young younger youngest youth")
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
    if in_one_piece and not verbatim and not _UNSURE.search(said.rstrip("?!. ")):
        told = _told(said, speaker, addressee, names)
        if told is not None:
            return told
    return f"{speaker} {ASKS} {_quoted(said)}" if asks else f"{speaker}: {_quoted(said)}"


def _told(said: str, speaker: str, addressee: str | None, names: frozenset[str]) -> str | None:
    """One sentence in the third person: plainly said of the speaker, or else retold behind the speaker's name."""
    asks = said.endswith(QUESTION_MARKS)
    if _tells_of_another(said, names):
        return None
    if _is_plain(said):
        told = _question(said, speaker, addressee) if asks else _first_person(said, speaker, addressee)
        if told is not None:
            return told
    retold = retell(said, speaker, addressee, asks=asks)
    if retold is None:
        return None
    return f"{speaker} {ASKS} {retold}" if asks else f"{speaker}: {_ended(retold)}"


def without_emoji(text: str) -> str:
    """``text`` on one line, without emoji, emoticons and symbols."""
    return " ".join(_EMOTICON.sub(" ", _EMOJI.sub(" ", text)).split())


def inside_quotes(text: str) -> str:
    """``text`` without double quotes: single ones stand for them."""
    return _DOUBLE_QUOTES.sub("’", _OPENING.sub("‘", text))


def _quoted(said: str) -> str:
    """In quotes that nothing inside can end."""
    return f'"{_capital(inside_quotes(said))}"'


def _is_plain(said: str) -> bool:
    """Whether a sentence neither asks for something nor says "we": those would be ours to say, without quotes or a colon."""
    return not any(as_token(token) in _OWN_VOICE for token in tokens_of(said))


def _tells_of_another(said: str, names: frozenset[str]) -> bool:
    """Whether somebody's name stands where anything may be claimed of them: anywhere but at the end, set apart by a comma."""
    tokens = [token for token in tokens_of(said.rstrip("?!. ")) if not token.isspace()]
    return any(
        _is_of(token, names) and not (place == len(tokens) - 1 and place and tokens[place - 1] == ",")
        for place, token in enumerate(tokens)
    )


def _is_of(token: str, names: frozenset[str]) -> bool:
    return not looks(as_token(token).removesuffix("'s")).isdisjoint(names)


def _question(said: str, speaker: str, addressee: str | None) -> str | None:
    """A yes-or-no question to "you", between two people, becomes "asks if"; ``None`` where the rules are not sure."""
    tokens = tokens_of(said.rstrip("? "))
    if len(tokens) < 5 or addressee is None or as_token(tokens[0]) not in _AUXILIARIES or as_token(tokens[2]) != "you":
        return None
    place = _verb_place(tokens, 4)
    auxiliary, verb = as_token(tokens[0]), as_token(tokens[place])
    asked = None if verb in _NOT_VERBS else _asked_verb(auxiliary, verb, "".join(tokens[4:place]))
    if asked is None or (auxiliary == "do" and _joins_a_verb(tokens[place + 1 :])):
        return None
    if not is_one_clause(verb, "".join(tokens[place + 1 :])):
        return None
    rest = _retell(tokens[place + 1 :], addressee, verb, asks=True)
    return None if rest is None else f"{speaker} {ASKS_IF} {addressee} {asked}{rest}."


def _asked_verb(auxiliary: str, verb: str, adverbs: str) -> str | None:
    if auxiliary == "do":
        agreed = agree(verb)
        return None if agreed is None else adverbs + agreed
    if auxiliary in ("can", "could", "will", "would", "should", "must", "may"):
        return f"{auxiliary} {adverbs}{verb}"
    if auxiliary in ("are", "were", "have"):
        return f"{ {'are': 'is', 'were': 'was', 'have': 'has'}[auxiliary] } {adverbs}{verb}"
    return None


def _first_person(said: str, speaker: str, addressee: str | None) -> str | None:
    """A statement that begins with I, as one about ``speaker``; ``None`` where the rules are not sure."""
    tokens = tokens_of(said)
    first = as_token(tokens[0])
    if first in CONTRACTED:
        if first == "i'd" and not (len(tokens) > 2 and as_token(tokens[2]) in AFTER_WOULD):
            return None  # it may stand for "had"
        return _sentence(f"{speaker} {CONTRACTED[first]}", tokens[1:], addressee, CONTRACTED[first])
    if first != "i" or len(tokens) < 3:
        return None
    place = _verb_place(tokens, 2)
    verb = as_token(tokens[place])
    agreed = agree(verb)
    if agreed is None or (agreed != verb and _joins_a_verb(tokens[place + 1 :])):
        return None
    return _sentence(f"{speaker}{''.join(tokens[1:place])}{agreed}", tokens[place + 1 :], addressee, verb)


def _verb_place(tokens: list[str], place: int) -> int:
    """Where the verb stands, after adverbs."""
    while place + 2 < len(tokens) and as_token(tokens[place]) in ADVERBS:
        place += 2
    return place


def _joins_a_verb(rest: list[str]) -> bool:
    """Whether a second verb may follow that would have to agree, too: "and want". "And the" begins none."""
    words = [as_token(token) for token in rest if token[0].isalnum()]
    return any(word in _JOINS and following not in _NO_VERB_FOLLOWS for word, following in pairwise(words))


def _sentence(start: str, rest: list[str], addressee: str | None, verb: str) -> str | None:
    told = _retell(rest, addressee, verb) if is_one_clause(verb, "".join(rest)) else None
    if told is None:
        return None
    return _ended(start + told)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "…", *QUESTION_MARKS)) else sentence + "."


def _retell(tokens: list[str], addressee: str | None, verb: str, *, asks: bool = False) -> str | None:
    """The rest of a sentence after ``verb``: I and my are now they and their; you is the addressee.

    ``None`` where that is not known, or a verb is not sure.
    """
    words = [(place, as_token(token)) for place, token in enumerate(tokens) if token[0].isalnum()]
    told = list(tokens)
    for number, (place, word) in enumerate(words):
        before = words[number - 1][1] if number else verb
        following = words[number + 1][1] if number + 1 < len(words) else ""
        if word in _PRONOUNS:
            told[place] = _PRONOUNS[word]
        elif (word.startswith("you") or word in _YOU) and word not in _NOT_YOU:
            retold = None if addressee is None else _of_you(word, addressee, before, following, asks=asks)
            if retold is None:
                return None
            told[place] = retold
    return "".join(told)


def _of_you(word: str, addressee: str, before: str, following: str, *, asks: bool) -> str | None:
    """What stands for "you"; ``None`` if something might be claimed of them, a verb might have to change, or the word is not known."""
    if not asks and not is_kind(before, following):
        return None
    if word in ("your", "yours"):
        return f"{addressee}'s" if asks else None
    if word != "you" or (following in PRESENT and before not in BARE):
        return None
    return addressee


def _capital(text: str) -> str:
    """With a capital, unless the first word is an address, which stays as it is."""
    return text if _ADDRESS.search(text.split(" ", 1)[0]) else text[:1].upper() + text[1:]
