"""Ways to choose the few pieces of a chat that stand for all of it: the assistant's, and those that it is compared with.

Every method chooses among the same pieces, and what it chose is put into words in the same way, so that a difference is the choice's.
"""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer
from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
from sumy.nlp.stemmers import Stemmer
from sumy.summarizers.lex_rank import LexRankSummarizer
from sumy.summarizers.lsa import LsaSummarizer
from sumy.utils import get_stop_words

from ai_enclave.engine import Reader
from ai_enclave.engine.interface import INTENTS, KINDS, Judgement, Vectors
from ai_enclave.features import Digest, Digester, Thread
from ai_enclave.features.digest import Budget
from ai_enclave.features.lines import told
from ai_enclave.features.people import People
from ai_enclave.features.sentences import units_of
from ai_enclave.features.text import words_of
from benchmarks._corpora import Sample

OURS, OURS_UNTRAINED, ORACLE, RANDOM = "ours", "our rules, no ranker", "best possible", "random"
DRAWS = 5  # of the random choice, whose scores are averaged
_ENOUGH_WORDS = 1_000_000  # a budget that only its lines bound
_LANGUAGES = {"en": "english", "fr": "french", "de": "german", "es": "spanish"}


class Cut(StrEnum):
    """What the pieces are."""

    MESSAGES = "messages"
    SENTENCES = "sentences"


class Form(StrEnum):
    """How a piece is put into words."""

    NAMED = "named"  # "Speaker: text"
    TOLD = "told"  # as the assistant's lines: in the third person where its rules are sure


@dataclass(frozen=True, slots=True)
class Piece:
    """One message, or one sentence of one."""

    message: str  # its id
    speaker: str
    text: str = field(repr=False)
    told: str = field(repr=False)

    def say(self, form: Form) -> str:
        """In words."""
        return self.told if form is Form.TOLD else f"{self.speaker}: {self.text}"


@dataclass(frozen=True)
class Prepared:
    """A chat, ready to be summarised: its pieces, and what the assistant says of it. All is worked out once, when it is asked for."""

    sample: Sample
    reader: Reader

    @cached_property
    def pieces(self) -> dict[Cut, tuple[Piece, ...]]:
        """What there is to choose from: all that says something in words, in order."""
        return pieces_of(self.sample.thread)

    def vectors(self, cut: Cut) -> Vectors:
        """Of the texts of the pieces."""
        return self._vectors[cut]

    @cached_property
    def _vectors(self) -> dict[Cut, Vectors]:
        return {cut: self.reader.encode([piece.text for piece in pieces]) for cut, pieces in self.pieces.items()}

    @cached_property
    def own(self) -> Digest:
        """The assistant's digest as it is delivered."""
        return Digester(self.reader).digest(self.sample.thread, a_viewer(self.sample.thread))


def a_viewer(thread: Thread) -> str:
    """Somebody who takes part."""
    return next(iter(thread.names))


def pieces_of(thread: Thread) -> dict[Cut, tuple[Piece, ...]]:
    """The messages and the sentences of ``thread`` that say something in words."""
    people = People(thread, a_viewer(thread))
    sentences: list[Piece] = []
    of_message: dict[str, list[str]] = {}
    for unit in units_of(thread, people.compared_names):
        line = told(unit, people)
        if line:
            message = unit.message
            sentences.append(Piece(message.id, people.names[message.author], unit.text, line))
            of_message.setdefault(message.id, []).append(line)
    messages = [
        Piece(
            message.id, people.names[message.author], " ".join(message.text.split()), " ".join(of_message[message.id])
        )
        for message in thread.messages
        if message.id in of_message
    ]
    return {Cut.MESSAGES: tuple(messages), Cut.SENTENCES: tuple(sentences)}


def fixed(lines: int) -> Budget:
    """So many lines, if there are so many with something to say."""
    return Budget(words=_ENOUGH_WORDS, share=0.0, least=lines, most=lines, hear_all=False)


# --- methods ---

Choose = Callable[[Prepared, Cut, int], Sequence[int]]  # numbers of at most so many pieces, in order


def lead(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """The first."""
    return range(min(count, len(prepared.pieces[cut])))


def longest(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """Those with the most words."""
    return _best([len(words_of(piece.text)) for piece in prepared.pieces[cut]], count)


def by_lot(prepared: Prepared, cut: Cut, count: int, draw: int = 0) -> Sequence[int]:
    """Any; the same for the same chat and draw."""
    pieces = len(prepared.pieces[cut])
    lots = random.Random(f"{prepared.sample.id} {draw}")  # noqa: S311  # no secret
    return sorted(lots.sample(range(pieces), min(count, pieces)))


def lsa(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """Latent semantic analysis (Steinberger and Ježek 2004), as sumy has it."""
    return _by_sumy(_Lsa, prepared, cut, count)


def lex_rank(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """LexRank (Erkan and Radev 2004), as sumy has it."""
    return _by_sumy(LexRankSummarizer, prepared, cut, count)


def centroid(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """Those whose vectors are nearest to the mean."""
    vectors = prepared.vectors(cut)
    return _best((vectors @ vectors.mean(axis=0)).tolist(), count) if len(vectors) else []


def ours(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """What the assistant's digest of so many lines rests on."""
    return _by_digest(prepared, prepared.reader, cut, count)


def ours_untrained(prepared: Prepared, cut: Cut, count: int) -> Sequence[int]:
    """The same where nothing is learned: the ranker finds all equally good, and the rules decide."""
    return _by_digest(prepared, Impartial(prepared.reader), cut, count)


def best_possible(prepared: Prepared, cut: Cut, count: int, form: Form = Form.TOLD) -> Sequence[int]:
    """Found greedily with the reference at hand, so as to bring ROUGE-1 and ROUGE-2 up: what quoting allows."""
    tokens = words_for(prepared.sample.lang).tokenize
    references = [_grams(tokens(reference)) for reference in prepared.sample.references]
    grams = [_grams(tokens(piece.say(form))) for piece in prepared.pieces[cut]]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < count:
        left = [number for number in range(len(grams)) if number not in chosen]
        scores = {number: _likeness([grams[each] for each in (*chosen, number)], references) for number in left}
        number = max(left, key=lambda each: (scores[each], -each), default=-1)
        if number < 0 or scores[number] <= best:
            break
        best = scores[number]
        chosen.append(number)
    return sorted(chosen)


METHODS: dict[str, Choose] = {
    RANDOM: by_lot,
    "LEAD": lead,
    "LONGEST": longest,
    "LSA (sumy)": lsa,
    "LexRank (sumy)": lex_rank,
    "centre of vectors": centroid,
    OURS_UNTRAINED: ours_untrained,
    OURS: ours,
    ORACLE: best_possible,
}


class Impartial:
    """A reader that finds every text equally good."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def name(self) -> str:
        """What reads."""
        return f"{self._reader.name}, impartial"

    @property
    def weights_digest(self) -> bytes:
        """Of the reader beneath."""
        return self._reader.weights_digest

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the reader beneath."""
        return self._reader.encode(texts)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:  # noqa: ARG002
        """Everything is as likely as anything."""
        count = len(vectors)
        return Judgement(
            np.full(count, 0.5, dtype=np.float32),
            np.zeros((count, len(KINDS)), dtype=np.float32),
            np.full((count, len(INTENTS)), 1 / len(INTENTS), dtype=np.float32),
        )


def _by_digest(prepared: Prepared, reader: Reader, cut: Cut, count: int) -> list[int]:
    thread = prepared.sample.thread
    lines = Digester(reader).digest(thread, a_viewer(thread), fixed(count)).lines
    pieces = prepared.pieces[cut]
    if cut is Cut.MESSAGES:
        cited = {line.cites[0] for line in lines}
        return [number for number, piece in enumerate(pieces) if piece.message in cited]
    wanted = {(line.cites[0], line.text) for line in lines}
    return [number for number, piece in enumerate(pieces) if (piece.message, piece.told) in wanted]


def _best(scores: Sequence[float], count: int) -> list[int]:
    """The places of the greatest, the earlier first among equals."""
    return sorted(sorted(range(len(scores)), key=lambda number: (-scores[number], number))[:count])


# --- sumy ---


class _Lsa(LsaSummarizer):  # type: ignore[misc]  # sumy has no types
    """With its words in one order: sentences that are equally good are told apart by rounding, which the order decides."""

    def _create_dictionary(self, document: ObjectDocumentModel) -> dict[str, int]:
        return {word: place for place, word in enumerate(sorted(super()._create_dictionary(document)))}


class _SumyWords:
    """What sumy asks of a tokenizer; its own would fetch data."""

    def to_words(self, text: str) -> tuple[str, ...]:
        """The words of a sentence."""
        return tuple(words_of(text))


_Summarizer = Callable[[ObjectDocumentModel, int], Sequence[Sentence]]


@lru_cache
def _summarizer(kind: Callable[[Stemmer], Any], lang: str) -> _Summarizer:
    summarizer = kind(Stemmer(_LANGUAGES[lang]))
    summarizer.stop_words = get_stop_words(_LANGUAGES[lang])
    made: _Summarizer = summarizer
    return made


def _by_sumy(kind: Callable[[Stemmer], Any], prepared: Prepared, cut: Cut, count: int) -> list[int]:
    tokenizer = _SumyWords()
    sentences = [Sentence(piece.text, tokenizer) for piece in prepared.pieces[cut]]
    if not sentences:
        return []
    places = {id(sentence): number for number, sentence in enumerate(sentences)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "fewer words than sentences", of the shortest chats
        chosen = _summarizer(kind, prepared.sample.lang)(ObjectDocumentModel([Paragraph(sentences)]), count)
    return sorted(places[id(sentence)] for sentence in chosen)


# --- words, as ROUGE counts them ---


class _Words(Tokenizer):  # type: ignore[misc]  # rouge-score has no types
    """ROUGE's own words for English, with Porter's stems; for other languages the words as they are, with their accents."""

    def __init__(self, lang: str) -> None:
        self._english = DefaultTokenizer(use_stemmer=True) if lang == "en" else None
        self._known: dict[str, list[str]] = {}

    def tokenize(self, text: str) -> list[str]:
        """Kept: references come again and again."""
        if text not in self._known:
            self._known[text] = self._english.tokenize(text) if self._english else words_of(text)
        return self._known[text]


@lru_cache
def words_for(lang: str) -> _Words:
    """The words of a language."""
    return _Words(lang)


Gram = TypeVar("Gram")
_Grams = tuple[Counter[str], Counter[tuple[str, str]]]


def _grams(tokens: Sequence[str]) -> _Grams:
    return Counter(tokens), Counter(pairwise(tokens))


def _likeness(parts: Sequence[_Grams], references: Sequence[_Grams]) -> float:
    """ROUGE-1 and ROUGE-2 F1 of the parts together, the mean over the references; no bigram crosses a part's end."""
    ones = sum((part[0] for part in parts), Counter[str]())
    twos = sum((part[1] for part in parts), Counter[tuple[str, str]]())
    return sum(_f1(ones, one) + _f1(twos, two) for one, two in references) / len(references)


def _f1(found: Counter[Gram], wanted: Counter[Gram]) -> float:
    both = sum(min(number, wanted[gram]) for gram, number in found.items())
    return 2 * both / max(found.total() + wanted.total(), 1)


def summary(pieces: Sequence[Piece], chosen: Iterable[int], form: Form) -> str:
    """What was chosen, a line each."""
    return "\n".join(pieces[number].say(form) for number in chosen)
