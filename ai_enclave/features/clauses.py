"""Whether what follows a verb surely belongs to its clause, so that nothing else is claimed under its subject's name.

"I paid and Smith agreed to sell" is two claims; without quotes the second would read as ours. English is not parsed here:
plain cases are known, and all others count as a second clause. A plain case is a chain of verbs with one object, free in length only
after verbs that no claim can follow ("I need the signed contract", not "I heard the boss lied"), then short phrases of
one noun each behind a preposition, a join or a comma: "and lamps", "for the kids on Friday".
"""

import re
import unicodedata
from collections.abc import Sequence

from ai_enclave.features.text import word_set

# What can begin a clause wherever it stands; at the end it begins none: "I can do that."
_CLAUSE = word_set(
    "that because cause cuz if when while whenever though although unless whether which who whom whose what how why where"
    " whereas however i he she they"
)
_JOINS = word_set("and or but nor so yet then plus before after until till since as than once")
_SHARES_SUBJECT = word_set("and or but then")  # its subject may do the next thing, too: "and brought them"
_PREPOSITIONS = word_set(
    "of in on at for with without from by to into onto about around over under near behind between during through per"
)
_AUXILIARIES = word_set(
    "be been is am are was were isn't aren't wasn't weren't have has had haven't hasn't hadn't do does did don't doesn't didn't"
    " can could will would shall should must may might can't cannot couldn't won't wouldn't shouldn't mustn't shan't"
)
_CONTRACTION = re.compile(r".+'(?:re|ll|ve|d|m)|.+n't|(?:he|she|it|that|there|here|what|who|everyone|everybody)'s")
_WOULD_AGREE = word_set("am have haven't do don't")  # so that "and have" is not right for another person
# No claim follows these without a word that tells; and no noun is likely to be meant.
_PLAIN = word_set(
    "have has had need needed want wanted like liked love take took bring brought buy bought bake baked cook cooked"
    " drive drove start started send sent write wrote call called read pick picked look looked give gave get got keep kept use used"
    " pay paid book booked order ordered finish finished fix fixed clean cleaned pack packed prepare prepared print printed"
    " change changed move moved put left lost stay stayed come came go went help helped eat ate try tried"
)
_DETERMINERS = word_set("a an the my our your their its no every")
_NUMBERS = word_set("two three four five six seven eight nine ten twelve")
# What may be a subject by itself: another noun behind it is none of the same object.
_PRONOUNS = word_set(
    "everyone everybody nobody someone somebody anyone anybody it this these those all both some many most none people"
)
_SIZES = word_set("big small little whole warm cold fresh")  # adjectives that are no subject by themselves
_ADVERBS = word_set(
    "also just really still already never always only probably usually often finally not too again later soon now here there back"
    " up down out away home today tonight tomorrow yesterday noon midnight am pm o'clock morning afternoon evening night next last week"
    " weekend month year monday tuesday wednesday thursday friday saturday sunday please instead together very"
)
# Forms of verbs that may have a subject before them, besides -ed.
_PAST = word_set(
    "went took said told made came saw sent paid found bought thought wrote gave heard felt kept met forgot brought lost spoke knew"
    " ate drove won stole broke sold ran fell hid chose caught hit quit left swore threw hurt beat fled fought became began"
)
_NOT_PAST = word_set("need bed seed feed speed hundred indeed")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|\S")
_NO_BREAK = re.compile(r"(?<=\d)[.,:](?=\d)|(?<=\d)\s?[%€$£]|[€$£]\s?(?=\d)|[.!?\s]+$")
_BREAK = ","


def is_one_clause(verb: str, rest: str) -> bool:
    """Whether ``rest`` surely goes on with what ``verb`` (in lower case) says of its subject, and makes no other claim.

    Never sure where letters are not Latin.
    """
    words = _plain_words(rest)
    return words is not None and _Reader(verb).read(words)


def _plain_words(text: str) -> list[str] | None:
    """Words in lower case without accents, and breaks for signs between them; ``None`` if there are letters that are not Latin."""
    spelled = unicodedata.normalize("NFKD", text).replace("’", "'")
    plain = "".join(character for character in spelled if not unicodedata.combining(character)).lower()
    if any(character.isalnum() and not character.isascii() for character in plain):
        return None
    return [word if word[0].isalnum() else _BREAK for word in _TOKEN.findall(_NO_BREAK.sub("", plain))]


class _Reader:
    """Reads what stands behind a verb, word by word."""

    def __init__(self, verb: str) -> None:
        self._begin_object(verb)
        self._verb_may_join = False  # "and brought"

    def read(self, words: Sequence[str]) -> bool:
        """Whether all of it belongs to one clause."""
        ahead = [*words[1:], _BREAK]
        behind = ["", *words]
        return all(self._take(*around) for around in zip(words, behind, ahead, strict=False))

    def _begin_object(self, verb: str) -> None:
        self._free = verb in _PLAIN  # the object may have any length
        self._room = True  # for a noun
        self._verb_is_due = verb in _AUXILIARIES  # "will bring"

    def _take(self, word: str, before: str, following: str) -> bool:
        if word in _CLAUSE:
            return following == _BREAK
        if word not in _AUXILIARIES and _CONTRACTION.fullmatch(word):
            return False
        if word == _BREAK or word in _JOINS:
            self._free, self._room, self._verb_is_due = False, True, False
            self._verb_may_join = word in _SHARES_SUBJECT
        elif word in _PREPOSITIONS:
            self._room, self._verb_is_due = True, word == "to"
        elif word in _ADVERBS or word in _SIZES or (word.isdecimal() and not self._room):  # "room 2"
            pass
        elif self._is_verb_of_subject(word, following):
            self._begin_object(word)
            self._verb_may_join = False
        elif _may_be_verb(word) and before not in _DETERMINERS:
            return False
        else:
            return self._take_noun(word, following)
        return True

    def _is_verb_of_subject(self, word: str, following: str) -> bool:
        if self._verb_may_join:
            return (_may_be_verb(word) or word in _PLAIN) and word not in _WOULD_AGREE
        return self._verb_is_due and not _determines(word, following)

    def _take_noun(self, word: str, following: str) -> bool:
        self._verb_is_due = self._verb_may_join = False
        fits = self._room or self._free
        if not _determines(word, following):
            self._room = False
            self._free = self._free and word not in _PRONOUNS
        return fits


def _may_be_verb(word: str) -> bool:
    """Whether it may be a verb that needs a subject."""
    ends_so = word.endswith("ed") and len(word) > 3 and word not in _NOT_PAST
    return word in _AUXILIARIES or word in _PAST or ends_so


def _determines(word: str, following: str) -> bool:
    """Whether a noun has to follow. A number alone may be a subject: "two quit" are two claims, "two lamps" are lamps."""
    number = word in _NUMBERS or word.isdecimal()
    return word in _DETERMINERS or (number and following.endswith("s"))
