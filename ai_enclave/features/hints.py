"""What can be seen of a unit without understanding it: the numbers that the ranker reads beside its vector.

All are between about 0 and 1, and none depends on a name. Cues are words of four languages that often stand in what matters; to
miss one costs little, since the vectors carry most of it.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ai_enclave.features.conversation import Thread
from ai_enclave.features.score import STOP_WORDS, content_words
from ai_enclave.features.sentences import Unit

_WH = re.compile(
    r"^\W*(?:what|which|who|whom|whose|where|when|why|how|was|welche\w*|wer|wo|wann|warum|wie|que|qui|quand|où|pourquoi|comment|qué|"
    r"quién|dónde|cuándo|por qué|cómo)\b",
    re.IGNORECASE,
)
_CUES = tuple(
    re.compile(cue, re.IGNORECASE)
    for cue in (
        # settled
        (
            r"\b(?:decid\w+|agreed?|confirm\w*|settled|booked|cancel\w*|postponed|moved|deal|let'?s|final\w*|instead"
            r"|abgemacht|beschlossen|gebucht|verschoben|abgesagt|décidé|réservé|annul\w+|d'accord|confirm\w+|quedamos|decidido|reservad\w)\b"
        ),
        # promised
        (
            r"\b(?:i'?ll|i will|i can|i'?m going to|i'?m gonna|let me|on it|leave it to me|ich (?:mach|bring|hol|komm|kümmer|schick|ruf)\w*"
            r"|je (?:vais|peux|m'en|te|vous|passe|prends|ramène)|yo (?:\w+o)|me encargo|voy a|ya (?:lo|la))\b"
        ),
        # asked
        (
            r"\b(?:please|pls|plz|can (?:you|u|someone|anyone)|could (?:you|u|someone|anyone)|would you|need(?:s|ed)?|must|have to|should|bitte"
            r"|kannst|könn(?:t|test|en)|musst|brauch\w*|peux-tu|tu peux|pouvez|faut|besoin|stp|svp|puedes|podéis|puede|hay que|necesit\w+|porfa)\b"
        ),
        # when
        (
            r"\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?s?\b|\b(?:today|tonight|tomorrow|tmrw|noon|midnight|weekend|next week)\b"
            r"|\b\d{1,2}(?::\d\d| ?[ap]m|h\d{0,2}\b| ?uhr)|\b(?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag|heute|morgen|abends?)\b"
            r"|\b(?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|demain|ce soir|lunes|martes|miércoles|jueves|viernes|sábado|domingo|mañana|hoy)\b"
        ),
        # trouble
        (
            r"\b(?:sorry|broken?|ill|sick|late|delay\w*|problem|unfortunately|lost|missed|forgot|can'?t|cannot|won'?t|krank|kaputt|leider|verloren"
            r"|malade|panne|retard|désolé\w*|perdu|enferm\w|roto|tarde|perdid\w|lo siento)\b"
        ),
        # news
        r"\b(?:got|bought|found|sold|won|passed|arrived|finished|started|moved|married|pregnant|job|news|happened|told|said)\b",
        # "I" and "we"
        r"\b(?:i|i'm|i've|ich|je|j'|yo)\b",
        r"\b(?:we|we're|we'll|us|our|wir|uns|nous|on|nosotros|vamos)\b",
        # "you"
        r"\b(?:you|your|u|ur|du|dir|dich|ihr|tu|toi|vous|te|ti|tú|usted|vosotros)\b",
    )
)
_PLACEHOLDER = re.compile(r"[<\[(][^<\[(]{0,40}[>\])]|https?://")
NUMBER = 20 + len(_CUES)  # of hints for a unit


def hints_of(units: Sequence[Unit], thread: Thread, name_words: frozenset[str]) -> NDArray[np.float32]:
    """The hints of all units of a thread, in their order: shape (units, ``NUMBER``).

    ``name_words`` are words by which people there are called, in lower case.
    """
    said = [frozenset(content_words(unit)) for unit in units]
    frequency = Counter(word for words in said for word in words)
    by_author = Counter(message.author for message in thread.messages)
    messages = len(thread.messages)
    seen: set[str] = set()
    rows = []
    for number, unit in enumerate(units):
        before = units[number - 1] if number else None
        after = units[number + 1] if number + 1 < len(units) else None
        words, author = said[number], unit.message.author
        place = unit.place / max(messages - 1, 1)
        echoes = sum(frequency[word] > 1 for word in words)
        rare = sum(math.log((1 + len(units)) / frequency[word]) for word in words)
        rows.append(
            [
                math.log1p(len(unit.words)) / 4,
                math.log1p(len(words)) / 3,
                len(words) < 3,
                place,
                unit.place < 2,
                messages - unit.place <= 2,
                unit.asks,
                _WH.search(unit.text) is not None,
                any(character.isdigit() for character in unit.text),
                min(_capitals(unit.text), 4) / 4,
                not name_words.isdisjoint(unit.words),
                by_author[author] / messages,
                author not in seen,
                before is not None and before.message.author == author,
                after is not None and after.message.author == author,
                before is not None and before.asks and before.message.author != author,
                after is not None and after.message.author != author and len(after.words) <= 3,
                echoes / max(len(words), 1),
                min(rare, 20) / 20,
                _PLACEHOLDER.search(unit.text) is not None,
                *(cue.search(unit.text) is not None for cue in _CUES),
            ]
        )
        seen.add(author)
    return np.asarray(rows, dtype=np.float32).reshape(len(units), NUMBER)


def _capitals(text: str) -> int:
    """Words with a capital that do not begin a sentence."""
    words = text.split()
    return sum(
        word[:1].isupper() and not before.endswith((".", "!", "?")) and word.lower() not in STOP_WORDS
        for before, word in pairwise(words)
    )
