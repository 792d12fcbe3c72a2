"""What a feature may ask of an engine. An engine knows texts, vectors and tokens; conversations are for ``features``.

There are two kinds: a reader turns texts into vectors and judges them; a writer writes texts of its own. What both have in
common names them in receipts.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Engine(Protocol):
    """A language model that is loaded and ready."""

    @property
    def name(self) -> str:
        """What spoke, for people and receipts."""

    @property
    def weights_digest(self) -> bytes:
        """32 bytes that name the weights exactly."""


KINDS = ("ask", "question", "commitment", "date", "decision")  # what a text may be, in the order of ``Judgement.kinds``
KIND_CHANCES = (0.3, 0.4, 0.3, 0.35, 0.2)  # from which on a text counts as of that kind
INTENTS = (
    "accept",  # yes, agreed, will do
    "decline",  # no, cannot
    "defer",  # not sure, will check and say later
    "ask",  # asks something back
    "time",  # names a time or a day
    "inform",  # answers with a fact: a place, a name, a number, a reason
    "thank",
    "welcome",  # answers thanks
    "acknowledge",  # seen, understood
    "glad",  # congratulates, is pleased
    "sympathy",  # sorry to hear it, get well
    "offer",  # offers to do something
    "propose",  # another idea
    "greet",  # hello, good night
    "joke",  # laughs, teases
)  # what a reply may do, in the order of ``Judgement.intents``


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a reader makes of texts that were said one after the other. All are chances between 0 and 1."""

    salience: Vectors  # (texts,): of being what a summary rests on
    kinds: Vectors  # (texts, KINDS)
    intents: Vectors  # (texts, INTENTS): of what a reply to it does, if nothing was said after it; each row sums to 1


class Reader(Engine, Protocol):
    """An engine that reads. Calls are blocking: make them in a thread. Nothing that it reads can tell it what to do."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One vector of length 1 for each text, in order: shape (texts, size)."""

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        """Judge texts by their vectors and what ``features.hints`` says of each, (texts, hints), in the order of speaking."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The form of an answer that is a list of lines with cites: JSON, ``[{"text": "…", "cites": ["label", …]}, …]``.

    Nothing else can be written: no other key, no other label, no more lines, and at least one cite for each.
    """

    labels: tuple[str, ...]  # what may be cited; letters and digits, at most 8 of them
    most: int  # lines
    longest: int  # characters of a line's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Something to write.

    ``instructions`` are constant words of ours; ``text`` is data, which nobody should follow. ``tenant`` names whose data it is:
    nothing that is kept of one is ever used for another, but for the instructions. ``deadline`` is in seconds of
    ``time.monotonic``. Of requests that wait, those with the greater ``priority`` come first among a tenant's own.
    """

    id: bytes
    instructions: str
    text: str = field(repr=False)
    tenant: bytes = field(repr=False)
    deadline: float
    most_tokens: int
    priority: int = 0
    form: Lines | None = None


class Failure(StrEnum):
    """Why nothing more comes."""

    TOO_LONG = "too_long"  # the prompt does not fit
    BUSY = "busy"  # it could not be finished by its deadline, or too much waits
    LATE = "late"  # its deadline has passed
    CANCELLED = "cancelled"
    DRAINING = "draining"
    BROKEN = "broken"  # the engine failed


@dataclass(frozen=True, slots=True)
class Admitted:
    """Work on the request begins."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text, in whole characters."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is whole, or, if ``cut``, as long as it may be."""

    prompt_tokens: int
    tokens: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more comes, and what came is no answer."""

    why: Failure


Event = Admitted | Token | Done | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How busy a writer is, since it was made. Counts only: nothing of anybody."""

    running: int = 0
    waiting: int = 0
    finished: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    shared_prompt_tokens: int = 0  # of prompts, that were not computed again


class WriterKind(StrEnum):
    """What kind of engine writes; these words are measured."""

    LOCAL = "local weights"
    LOCAL_INT8 = "local weights, int8"
    SERVER = "model server"


class Writer(Engine, Protocol):
    """An engine that writes."""

    @property
    def kind(self) -> WriterKind:
        """What kind of engine this is, for the measurement: the same weights in another one are not the same."""

    async def warm(self) -> None:
        """Be ready to answer at once.

        Raises:
            EngineError: it cannot be used.
        """

    def submit(self, request: Request) -> AsyncGenerator[Event]:
        """Admitted, tokens, and at the end one of Done or Failed. Closing the generator cancels. It raises nothing."""

    def cancel(self, request_id: bytes) -> None:
        """Stop the work on a request, if there is any: it ends with Failed."""

    async def drain(self) -> None:
        """Take nothing new, and wait until what was taken is done."""

    def stats(self) -> Stats:
        """How busy it is."""

    async def close(self) -> None:
        """End; what still runs ends with Failed. All that was kept is overwritten."""
