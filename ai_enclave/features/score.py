"""Which units matter: hand-set features, and a choice that spares repetition and lets everybody be heard.

No centrality: in chats the sentence nearest the centre is small talk. The weights were set once, by hand, from what people ask
of a summary: decisions, plans, times, asks and promises.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ai_enclave.engine.interface import Vectors
from ai_enclave.features.sentences import Unit

MIN_CONTENT_WORDS = 3  # a unit with fewer is small talk
REPETITION = 0.6  # how much being like a chosen line costs
UNHEARD = 0.35  # a sender who is not heard yet comes first with a unit of this share of the best score

_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "if",
        "so",
        "then",
        "i",
        "me",
        "my",
        "you",
        "your",
        "he",
        "she",
        "it",
        "we",
        "they",
        "them",
        "his",
        "her",
        "its",
        "our",
        "us",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "am",
        "do",
        "does",
        "did",
        "have",
        "has",
        "had",
        "will",
        "would",
        "can",
        "could",
        "should",
        "shall",
        "may",
        "might",
        "must",
        "to",
        "of",
        "in",
        "on",
        "at",
        "for",
        "with",
        "from",
        "by",
        "as",
        "that",
        "this",
        "these",
        "those",
        "there",
        "here",
        "what",
        "which",
        "who",
        "when",
        "where",
        "why",
        "how",
        "not",
        "no",
        "yes",
        "ok",
        "okay",
        "yeah",
        "yep",
        "lol",
        "haha",
        "hi",
        "hey",
        "hello",
        "thanks",
        "thank",
        "please",
        "just",
        "also",
        "too",
        "very",
        "really",
        "well",
        "oh",
        "mm",
        "hmm",
        "hm",
        "mhm",
        "uh",
        "um",
        "great",
        "good",
        "nice",
        "cool",
        "sure",
        "perfect",
        "fine",
        "right",
        "all",
        "any",
        "some",
    ]
)
_DECISION = re.compile(
    r"\b(?:decid\w+|agreed?|confirm\w*|final|settled|booked|paid|cancel\w*|moved|postponed|deadline|instead|changed?|ready"
    r"|let's|lets|we (?:meet|take|go|start|need|will)|goes? out|done)\b",
    re.IGNORECASE,
)
_PROMISE = re.compile(r"\bi(?:'ll| will| can|'m going to| am going to)\b", re.IGNORECASE)
_ASK = re.compile(r"\b(?:please|can you|could you|would you|need(?:s|ed)?|must|have to|should)\b", re.IGNORECASE)
_FACT = re.compile(
    r"\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:today|tonight|tomorrow|noon)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A unit that may become a line. Scores compare within one thread only."""

    unit: Unit
    score: float
    vector: Vectors


def content_words(unit: Unit) -> list[str]:
    """The words that carry meaning."""
    return [word for word in unit.words if word not in _STOP]


def salience(unit: Unit, messages: int) -> float:
    """How much a unit matters by itself, 0 for small talk."""
    content = len(content_words(unit))
    if content < MIN_CONTENT_WORDS:
        return 0.0
    score = math.log1p(min(content, 12))
    score += 0.9 * bool(_DECISION.search(unit.text))
    score += 0.6 * bool(_PROMISE.search(unit.text))
    score += 0.4 * bool(_ASK.search(unit.text))
    score += 0.5 * min(len(_FACT.findall(unit.text)), 2)
    score += 0.3 * unit.text.endswith("?")
    score += 0.3 * unit.place / max(messages - 1, 1)  # the later word stands
    return score * (0.3 if unit.suspicious else 1.0)


def choose(candidates: Sequence[Scored], *, words: int, least: int, most: int) -> list[Scored]:
    """Pick until ``words`` are spent, at least ``least`` and at most ``most`` units, best first.

    A unit loses by what it repeats of those chosen (maximal marginal relevance, Carbonell and Goldstein 1998), and nobody is
    heard twice while somebody else with something to say has not been heard.
    """
    left = [candidate for candidate in candidates if candidate.score > 0]
    chosen: list[Scored] = []
    heard: Counter[str] = Counter()
    spent = 0
    while left and len(chosen) < most and (spent < words or len(chosen) < least):
        best = max(_next_in_turn(left, heard), key=lambda candidate: _marginal(candidate, chosen))
        left.remove(best)
        chosen.append(best)
        heard[best.unit.message.author] += 1
        spent += len(best.unit.words)
    return chosen


def _next_in_turn(left: Sequence[Scored], heard: Counter[str]) -> list[Scored]:
    """Those whose turn it is: the least heard among the senders who have something worth a line."""
    worth = UNHEARD * max(candidate.score for candidate in left)
    worthy = [candidate for candidate in left if candidate.score >= worth]
    fewest = min(heard[candidate.unit.message.author] for candidate in worthy)
    return [candidate for candidate in worthy if heard[candidate.unit.message.author] == fewest]


def _marginal(candidate: Scored, chosen: Sequence[Scored]) -> float:
    if not chosen:
        return candidate.score
    repeated = max(float(np.dot(candidate.vector, other.vector)) for other in chosen)
    return candidate.score * (1 - REPETITION * max(repeated, 0.0))
