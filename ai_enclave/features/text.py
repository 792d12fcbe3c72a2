"""What a text may look like on a screen: nothing hidden, nothing that a client could take for markup.

The text stays the sender's; nothing here decides what it means. Lookalikes are told apart in ``latin`` for
comparisons only.
"""

import re
import unicodedata

from ai_enclave.features.limits import MAX_COMBINING

_NOT_ASCII = re.compile(r"[^\n\t\x20-\x7e]+")
_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn"])
# Letters and marks that show nothing (Default_Ignorable_Code_Point of Unicode, as far as no category says it), and
# the empty Braille cell.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_LINE_ENDS = frozenset("\x0b\x0c\r\x85\u2028\u2029")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_IMAGE = re.compile(r"!+\[")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
MARKUP = re.compile(r"\]\(|!\[|<[A-Za-z/!?]|\n")  # what ``harmless`` text does not hold
_ACCENTS = re.compile(r"[\u0300-\u036f]+")

# Letters that look like one Latin letter: Unicode Technical Standard 39, confusables.txt 14.0, the rows of these
# scripts whose target is one letter of ASCII. Where it says l for a capital I, this says I: ``skeleton`` in ``names``
# makes the two one.
_LATIN = str.maketrans(
    "ɑƄꞴᴄꬲꬵꞙẝꞘɡᶃƍıɪɩꞲǀᴏᴑꬽꭇꭈƦꜱƽꞟᴜꭎꭒʋᴠɯᴡꞳɣᶌʏỿꭚᴢ"
    "αΑΒΕϜΗιϳͿΚΙΜϺΝοσΟρΡᴦΤυνΧγΥΖ"
    "аАЬВсСԁеҽЕԌһНіꙇјЈКІӀМоОрРԛгѕЅТѵѴѡԝԜхХуүУҮ"
    "քցհոռօՕգզՏսՍա"
    "ᎪᏏᏴꮯᏟᏧᎠᎬᏀᏳᏂᎻꭵᎥᎫᏦᏞᎷᏢꮁᎡᏒꮪᏕᏚᎢꮩᏙꮃᎳᏔᎩᎽꮓᏃ",
    "abBcefffFgggiiiJlooorrRssuuuuuvwwXyyyyyz"
    "aABEFHijJKIMMNooOpPrTuvXyYZ"
    "aAbBcCdeeEGhHiijJKIIMoOpPqrsSTvVwwWxXyyYY"
    "fghnnoOqqSuUw"
    "AbBcCdDEGGhHiiJKLMPrRRsSSTvVwWWYYzZ",
)


def word_set(listed: str) -> frozenset[str]:
    """The words of a list in one string."""
    return frozenset(listed.split())


def visible(text: str) -> str:
    """``text`` without what hides or reorders other characters: controls, zero-width and bidirectional marks."""
    return _NOT_ASCII.sub(lambda run: _visible(run[0]), text)


def _visible(run: str) -> str:
    kept, marks = [], 0
    for character in run:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character in _LINE_ENDS:
            kept.append("\n")
        elif category not in _HIDDEN and character not in _BLANK and marks <= MAX_COMBINING:
            kept.append(character)
    return "".join(kept)


def harmless(text: str) -> str:
    """``text`` on one line, and what a client might follow shown as text: Markdown's links and images, HTML's tags."""
    flat = _IMAGE.sub("[", " ".join(text.split()))
    return _TAG.sub("‹", flat.replace("](", "] ("))


def latin(text: str) -> str:
    """For comparisons: lower case, no accents, and letters that look like Latin ones as Latin."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).translate(_LATIN)
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", plain)).casefold().replace("’", "'")


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case; numbers count as words, emoji do not."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]
