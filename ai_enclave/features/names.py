"""What to call people: the names that the requester gives, cleaned, and told apart.

A name is chosen by a stranger. It gets one line of visible letters and can hold nothing that could end it: no colon,
quote, bracket or line end. Names that a reader could take for each other all get a number, also the one who had the
name first: which of them is the true one cannot be known here. A number in parentheses is this module's mark alone
and is taken off a given name. A name that poses as the machine, or reads like a sentence, is shown in quotes.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from ai_enclave.features.limits import MAX_NAME, MAX_NAME_WORDS
from ai_enclave.features.text import latin, visible

UNNAMED = "Someone"

_LETTERS = ("L", "M", "N", "So")  # categories of Unicode; ends and signs are in ``_ALSO``
_ALSO = frozenset(" '’-.&+,()")
_COLONS = frozenset("\u02d0\u0703\u0704\u0903")  # letters and marks that look like a colon
_MARK = re.compile(r"(?:\s*\(\s*\d*\s*\))+\s*$")
_MACHINE = re.compile(
    r"\b(?:ai|a\.i|ki|assistant|assistent\w*|asistente|system|admin\w*|moderator|bot"
    r"|chat ?bot|llm|gpt\w*|server|service|support|security|sub[ -]?rosa"
    r"|signal|summary|digest|root|official)\b"
)
_SENTENCE = re.compile(
    r"\b(?:asks?|says?|said|agrees?|if|that|wrote|will|is|was|has|promised|decided|owes?|stole|lied|paid|killed|hit|wants?|needs?)\b"
    r"|^(?:i|me|my|you|your|he|she|it|we|us|our|they|them|everyone|everybody|all|nobody|someone else)\b"
)
_LOOK_ALIKE = str.maketrans("i10", "llo")


def display_names(people: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """One name for each of ``people`` (opaque ids), in their order; ``given`` is what the requester calls them.

    No two of the names are confusable. Giving the result again changes nothing.
    """
    plain = {person: clean_name(given.get(person, "")) for person in people}
    shown = {}
    for group in _confusable(plain):
        for number, person in enumerate(group, start=1):
            mark = f" ({number})" if len(group) > 1 else ""
            shown[person] = _quoted_if_it_poses(plain[person] + mark)
    return {person: shown[person] for person in plain}


def clean_name(name: str) -> str:
    """``name`` as one short line of letters, numbers and few signs; ``Someone`` if nothing is left."""
    composed = unicodedata.normalize("NFKC", visible(name))
    kept = "".join(character if _may_stand(character) else " " for character in visible(composed))
    flat = _MARK.sub("", " ".join(kept.split()))[:MAX_NAME]
    flat = _MARK.sub("", flat.replace("(", "").replace(")", "")).strip(" '’-.&+,")
    return flat if any(character.isalnum() for character in flat) else UNNAMED


def skeleton(name: str) -> str:
    """Equal for names that a reader could take for each other (the idea of Unicode Technical Standard 39, section 4).

    Besides letters of other scripts: l, I and 1; 0 and O; rn and m. Spaces, signs and accents do not tell names apart.
    """
    plain = latin(name)
    letters = plain if plain.isalnum() else "".join(character for character in plain if character.isalnum())
    return letters.translate(_LOOK_ALIKE).replace("rn", "m").replace("vv", "w")


def looks(word: str) -> frozenset[str]:
    """What a word looks like: two that share a look could be taken for each other. A letter may look Latin as a capital only."""
    forms = (word.lower(),) if word.isascii() and word.isalnum() else (word, word.upper(), word.lower())
    return frozenset(skeleton(form) or form for form in forms)


def _may_stand(character: str) -> bool:
    category = unicodedata.category(character)
    return character not in _COLONS and (character in _ALSO or category.startswith(_LETTERS))


def _confusable(names: Mapping[str, str]) -> list[list[str]]:
    """The people in groups of those whose names could be taken for each other, first come first."""
    group_of: dict[str, list[str]] = {}  # by skeleton
    for person, name in names.items():
        keys = set(looks(name))
        merged = [person]
        for known in {id(group): group for key in keys if (group := group_of.get(key))}.values():
            merged = known + merged
            keys |= {key for key, group in group_of.items() if group is known}
        for key in keys:
            group_of[key] = merged
    return list({id(group): group for group in group_of.values()}.values())


def _quoted_if_it_poses(name: str) -> str:
    low = latin(name)
    poses = _MACHINE.search(low) or _SENTENCE.search(low) or len(name.split()) > MAX_NAME_WORDS
    return f'"{name}"' if poses else name
