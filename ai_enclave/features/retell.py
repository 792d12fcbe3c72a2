"""A sentence retold behind its speaker's name: "Jonas: will bring the stove if Amanda brings tea".

Only pronouns change, and the verbs that have to agree with what stands for them: I, me and my are the speaker; you is the addressee,
where that is known. What is said of others stays as it was said, and stays behind the name of who said it. What is claimed of the
addressee is not retold: "you owe me" and "your debt" are quoted; "if you come", "do you come?" and "I will help you" are not. Nor is what
somebody else said of themselves ("she said I love it"). Where a pronoun or a verb is not sure,
``None``: then the sentence is quoted, too. English only.
"""

from ai_enclave.features.text import word_set
from ai_enclave.features.verbs import (
    ADVERBS,
    AFTER_WOULD,
    BARE,
    CONTRACTED,
    IRREGULAR,
    KIND_TO,
    PAST,
    PRESENT,
    SAYING,
    agree,
    as_token,
    tokens_of,
)

_FEWEST_WORDS = 2
_FIRST = CONTRACTED | {"im": "is", "ive": "has"}
_SECOND = {"you're": "is", "youre": "is", "you'll": "will", "you've": "has", "you'd": "would"}
_OF_SPEAKER = {"me": "", "my": "'s", "mine": "'s"}
_OF_ADDRESSEE = {"your": "'s", "yours": "'s"}
_YOU = word_set("you u ya")
# Forms of "you" that these rules do not know, and what "you" stands in without meaning anybody.
_UNKNOWN = word_set("neither nor hardly ur yourself yall y'all thou thee thy yourselves you'da ima imma")
_IDLE = (
    ("thank", "you"),
    ("see", "you"),
    ("you", "know"),
    ("you", "guys"),
    ("you", "all"),
    ("you", "two"),
    ("you", "both"),
)
_INVERTED = {verb: agreed for verb, agreed in IRREGULAR.items() if verb != "go"}  # what may stand before its subject
_MODALS = word_set(
    "can could will would should shall must may might did was had can't couldn't won't wouldn't shouldn't didn't wasn't hadn't"
)
# After these "you" is no subject.
_TAKE_OBJECTS = word_set(
    "to for with from of at on by about like let make help see watch want than and or but behind beside around near after before"
    " without between"
)
_SUBJECT_JOINS = word_set(
    "that if when because cause cuz as while until till unless so what where how why who which and or but than"
)
_ASK_WITH = _SUBJECT_JOINS | word_set("when whose whom")
_ADVICE = word_set("can could should")  # "you should ask them" says nothing that was done
_CONDITIONS = word_set("if when unless until till")  # what is said of the addressee behind these is no claim
# Before these verbs of saying it is the speaker who says it: "I told", "I would say".
_OWN_SAYING = word_set(
    "i i'll i'd would will can could should to just already would'd don't didn't do did really also never always"
)
# Words that may begin a sentence before "I" in a capital. Any other may be somebody's name, and would read as one with the speaker's.
_BEGIN = _SUBJECT_JOINS | word_set(
    "then now yes yeah no ok okay maybe sorry well also today tomorrow tonight sure ah oh guys"
)


def retell(said: str, speaker: str, addressee: str | None, *, asks: bool = False) -> str | None:
    """``said``, one sentence without marks that could begin another's words, as what ``speaker`` says of themselves.

    ``None`` if there is nothing to retell, or something is not sure. What is asked (``asks``) claims nothing.
    """
    tokens = tokens_of(said)
    words = [place for place, token in enumerate(tokens) if token[0].isalnum()]
    said_words = [as_token(tokens[place]) for place in words]
    if any(word in _UNKNOWN for word in said_words) or _is_reported(said_words):
        return None
    told = _Told(tokens, words, said_words, speaker, addressee, asks=asks)
    return told.finish() if all(told.take(number) for number in range(len(words))) else None


class _Told:
    """The sentence while it is retold, word by word."""

    def __init__(
        self,
        tokens: list[str],
        places: list[int],
        words: list[str],
        speaker: str,
        addressee: str | None,
        *,
        asks: bool,
    ) -> None:
        self._tokens = list(tokens)
        self._places = places
        self._words = words
        self._speaker = speaker
        self._addressee = addressee
        self._asking = asks
        self._changed = False

    def take(self, number: int) -> bool:
        """Retell one word; ``False`` where that is not sure."""
        word = self._words[number]
        if word == "i":
            return self._subject(number, self._speaker)
        if word in _FIRST:
            return self._contracted(number, self._speaker, _FIRST[word])
        if word in _OF_SPEAKER:
            return self._put(number, self._speaker + _OF_SPEAKER[word])
        if word == "myself":
            return self._put(number, "themselves")
        if not (word in _YOU or word in _SECOND or word in _OF_ADDRESSEE):
            return True
        return self._of_addressee(number, word)

    def _of_addressee(self, number: int, word: str) -> bool:
        if self._addressee is None:
            return False  # in a group nobody knows who is meant, and who reads it might think it is they
        before, after = self._word(number - 1), self._word(number + 1)
        if not self._asking and not (word in _YOU and self._claims_nothing(before, after, self._word(number + 2))):
            return False
        if word in _SECOND:
            return self._contracted(number, self._addressee, _SECOND[word])
        if word in _OF_ADDRESSEE:
            return self._put(number, self._addressee + _OF_ADDRESSEE[word])
        if (before, word) in _IDLE or (word, after) in _IDLE:
            return False
        if self._is_object(before) and (before in BARE or not _may_be_verb(after)):
            return self._put(number, self._addressee)
        return self._subject(number, self._addressee)

    @staticmethod
    def _claims_nothing(before: str, after: str, then: str) -> bool:
        """Whether a statement with "you" says nothing of them that could be held against them."""
        advised = after in _ADVICE and then in PRESENT
        conditional = before in _CONDITIONS and after in PRESENT
        return advised or conditional or is_kind(before, after)

    @staticmethod
    def _is_object(before: str) -> bool:
        if before in _INVERTED or before in _MODALS:
            return False
        return before in _TAKE_OBJECTS or before in PRESENT or before in PAST or before.endswith(("ing", "ed"))

    def _subject(self, number: int, name: str) -> bool:
        """A subject, whose verb stands before it ("do you") or after it."""
        before = self._word(number - 1)
        if self._word(number + 1) == "and" or self._may_be_a_name(number - 1):
            return False
        if before in _INVERTED and self._asks(number - 1):
            return self._put(number - 1, _INVERTED[before]) and self._put(number, name)
        if before in _MODALS and self._asks(number - 1):
            return self._put(number, name)
        at = number + 1
        while self._word(at) in ADVERBS and self._word(at + 1):
            at += 1
        verb = self._word(at)
        if not verb:
            return self._put(number, name)
        agreed = agree("don't" if verb == "dont" else verb)
        return agreed is not None and self._put(at, agreed) and self._put(number, name)

    def _may_be_a_name(self, number: int) -> bool:
        """Whether a word, right before one of the people, could be read as part of that name."""
        if number < 0 or self._breaks(number + 1):
            return False
        return (
            self._tokens[self._places[number]][:1].isupper()
            and self._words[number] not in _BEGIN | _MODALS | _INVERTED.keys()
        )

    def _asks(self, auxiliary: int) -> bool:
        """Whether an auxiliary stands where it does in a question: first, or behind a word that asks or joins."""
        before = self._word(auxiliary - 1)
        return not before or before in _ASK_WITH or self._breaks(auxiliary) or "what" in self._words[: auxiliary - 1]

    def _breaks(self, number: int) -> bool:
        """Whether a comma stands before a word."""
        return "," in "".join(self._tokens[self._places[number - 1] + 1 : self._places[number]])

    def _contracted(self, number: int, name: str, verb: str) -> bool:
        if (verb == "would" and self._word(number + 1) not in AFTER_WOULD) or self._may_be_a_name(number - 1):
            return False  # it may stand for "had"
        return self._put(number, f"{name} {verb}")

    def _word(self, number: int) -> str:
        return self._words[number] if 0 <= number < len(self._words) else ""

    def _put(self, number: int, word: str) -> bool:
        self._tokens[self._places[number]] = word
        self._changed = True
        return True

    def finish(self) -> str | None:
        """What goes behind the speaker's name; ``None`` if nothing had to change."""
        if not self._changed or len(self._words) < _FEWEST_WORDS:
            return None
        told = "".join(self._tokens).strip()
        return told.removeprefix(f"{self._speaker} ")


def is_kind(before: str, after: str) -> bool:
    """Whether "you", between these words, is somebody to whom something is done that nobody would hold against them."""
    return before in KIND_TO and not (before == "call" and after in ("a", "an", "the"))


def _is_reported(words: list[str]) -> bool:
    """Whether "I" or "my" may be somebody else's: behind what another one said."""
    for place, word in enumerate(words):
        if word in SAYING and place and words[place - 1] not in _OWN_SAYING:
            return any(later in _FIRST or later in _OF_SPEAKER or later == "i" for later in words[place + 1 :])
    return False


def _may_be_verb(word: str) -> bool:
    return word in IRREGULAR or word in PRESENT or word in PAST or word in _MODALS or word.endswith("ed")
