"""An answer that can be nothing but a list of lines with cites: which tokens may come next.

The language is the JSON of ``Lines`` as ``json.dumps`` writes it: ``[]``, or objects of a text and its cites. It is read byte by byte, so
that tokens may hold parts of characters and of the shape. A text has at least one character; of escapes it has only those of the
quotation mark and the backslash, and a token does not end within one; control characters and broken UTF-8 cannot be written; each label is cited
at most once in a line. A token crosses at most one border between text and shape, which keeps the sets of tokens independent of
what one request cites.
"""

import re
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_enclave.engine.interface import Lines
from ai_enclave.engine.local.packing import BITS, Row
from ai_enclave.engine.weights import EngineError

MAX_LABELS = 1000  # of one request
MAX_KEPT_MASKS = 512  # of some 20 kB each, for 150,000 tokens
MAX_KEPT_COUNTS = 16  # of some 600 kB each
_USUAL = re.compile(rb"[ A-Za-z0-9.,;:!?'()-]*")  # what most tokens are made of
_LABEL = re.compile(r"[A-Za-z0-9]{1,8}")
_QUOTE, _ESCAPE = 0x22, 0x5C
_CLOSE = b'", "cites": ["'
_NEVER = np.iinfo(np.int32).max


class Goal(Enum):
    """What follows a word of the shape."""

    TEXT = auto()
    LABEL = auto()
    CITED = auto()
    END = auto()


class Word(NamedTuple):
    """A word of the shape, as far as it is not written yet."""

    rest: bytes
    goal: Goal
    label: bytes = b""


@dataclass(frozen=True, slots=True)
class Shape:
    """Within the shape: one of these words comes."""

    words: tuple[Word, ...]
    lines: int  # that were begun
    cited: tuple[bytes, ...]  # in this line


@dataclass(frozen=True, slots=True)
class Inside:
    """Within the text of a line."""

    lines: int
    characters: int = 0  # begun
    partial: bytes = b""  # of the last one, if it is not whole
    escaped: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """All is written."""


State = Shape | Inside | Ended


@dataclass(frozen=True, slots=True)
class Language:
    """What one request may write, byte by byte."""

    labels: tuple[bytes, ...]
    most: int
    longest: int

    @classmethod
    def of(cls, form: Lines) -> "Language":
        """That of a request's form.

        Raises:
            ValueError: there are too many labels, or one is not made of 1 to 8 letters and digits.
        """
        if len(form.labels) > MAX_LABELS or not all(_LABEL.fullmatch(label) for label in form.labels):
            raise ValueError("labels are 1 to 8 letters and digits each, and not too many")
        labels = tuple(dict.fromkeys(label.encode() for label in form.labels))
        return cls(labels, form.most if labels and form.longest > 0 else 0, form.longest)

    def start(self) -> State:
        """Before the first byte."""
        words = [Word(b"[]", Goal.END), *([Word(b'[{"text": "', Goal.TEXT)] if self.most > 0 else [])]
        return Shape(tuple(words), 0, ())

    def step(self, state: State, byte: int) -> State | None:
        """After one more byte, or ``None`` if it may not come."""
        match state:
            case Shape():
                return self._in_shape(state, byte)
            case Inside():
                return self._in_text(state, byte)
            case Ended():
                return None

    def branches(self, state: Shape) -> Iterator[tuple[int, State]]:
        """Every byte that may come within the shape, and the state after it: one look at each word, for there may be many labels."""
        words: dict[int, list[Word]] = {}
        for word in state.words:
            words.setdefault(word.rest[0], []).append(word)
        for byte, alike in words.items():
            yield byte, self._begun(alike, state)

    def _in_shape(self, state: Shape, byte: int) -> State | None:
        words = [word for word in state.words if word.rest[0] == byte]
        return self._begun(words, state) if words else None

    def _begun(self, words: Sequence[Word], state: Shape) -> State:
        """After the byte that these words, and no others, begin with."""
        left = tuple(Word(word.rest[1:], word.goal, word.label) for word in words)
        done = left[0]  # no word is the start of another, so that a finished one stands alone
        return Shape(left, state.lines, state.cited) if done.rest else self._after(done, state)

    def _after(self, word: Word, state: Shape) -> State:
        match word.goal:
            case Goal.TEXT:
                return Inside(state.lines + 1)
            case Goal.LABEL:
                words = tuple(
                    Word(label + b'"', Goal.CITED, label) for label in self.labels if label not in state.cited
                )
                return Shape(words, state.lines, state.cited)
            case Goal.CITED:
                return self._after_cite(state.lines, (*state.cited, word.label))
            case Goal.END:
                return Ended()

    def _after_cite(self, lines: int, cited: tuple[bytes, ...]) -> State:
        words = [Word(b"]}]", Goal.END)]
        if len(cited) < len(self.labels):
            words.append(Word(b', "', Goal.LABEL))
        if lines < self.most:
            words.append(Word(b']}, {"text": "', Goal.TEXT))
        return Shape(tuple(words), lines, cited)

    def _in_text(self, state: Inside, byte: int) -> State | None:
        if state.partial:
            partial = state.partial + bytes([byte])
            return None if (left := _left(partial)) is None else _with(state, partial if left else b"")
        if state.escaped:
            return Inside(state.lines, state.characters) if byte in (_QUOTE, _ESCAPE) else None
        if byte == _QUOTE:
            return Shape((Word(_CLOSE[1:], Goal.LABEL),), state.lines, ()) if state.characters else None
        left = _left(bytes([byte]))
        if byte < 0x20 or byte == 0x7F or left is None or state.characters == self.longest:
            return None
        partial = bytes([byte]) if left else b""
        return Inside(state.lines, state.characters + 1, partial, byte == _ESCAPE)


class Grammar:
    """The vocabulary, prepared once for all requests: which tokens are text, and where they stand in the order of their bytes."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """``pieces`` are the bytes of each token.

        Raises:
            EngineError: the vocabulary lacks single bytes, so that not everything could be written with it.
        """
        self._pieces = pieces
        self.words = -(-len(pieces) // BITS)
        order = sorted(number for number, piece in enumerate(pieces) if piece)
        order.sort(key=lambda number: pieces[number])
        self._numbers = np.array(order, np.int32)
        self._sorted = [pieces[number] for number in order]
        needed = {bytes([byte]) for byte in range(0x20, 0x7F)} | {bytes([byte]) for byte in range(0x80, 0xC0)}
        if not needed <= set(self._sorted):
            raise EngineError("the tokenizer cannot write every character on its own, so that no form could be kept")
        self._plain = self._characters(b"", range(len(pieces)))
        quoting = (number for number, piece in enumerate(pieces) if _QUOTE in piece)
        self._closing = [found for number in quoting if (found := _closing(number, pieces[number]))]
        self._openings: dict[bytes, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
        self._continuing: OrderedDict[bytes, NDArray[np.int32]] = OrderedDict()
        self._masks: OrderedDict[tuple[int, bool, bytes], Row] = OrderedDict()
        self._longest = int(self._plain[self._plain != _NEVER].max())

    def begin(self, form: Lines) -> "Writing":
        """An answer that has nothing yet.

        Raises:
            ValueError: the form's labels cannot be used.
        """
        return Writing(self, Language.of(form))

    def mask(self, language: Language, state: State) -> Row:
        """The tokens that may come, a bit for each; not to be changed."""
        match state:
            case Inside():
                return self._text_mask(language.longest - state.characters, state.characters > 0, state.partial)
            case Shape():
                return self._bits(np.array(list(self._shape_tokens(language, state)), np.int64))
            case Ended():
                return self._bits(np.array([], np.int64))

    def _text_mask(self, room: int, closable: bool, partial: bytes) -> Row:
        """It depends on little, and is asked for at almost every token."""
        room = min(room, self._longest)
        key = (room, closable, partial)
        if key not in self._masks:
            if partial:
                allowed = self._after_partial(partial) - 1 <= room  # its character was counted when it began
            else:
                allowed = self._plain <= room
                allowed[
                    [number for number, characters in self._closing if characters <= room and (closable or characters)]
                ] = True
            self._masks[key] = _packed(allowed)
            _bound(self._masks, MAX_KEPT_MASKS)
        self._masks.move_to_end(key)
        return self._masks[key]

    def _after_partial(self, partial: bytes) -> NDArray[np.int32]:
        """Of each token, the characters that it and the bytes before it are."""
        if partial not in self._continuing:
            continuations = self._numbers[bisect_left(self._sorted, b"\x80") : bisect_left(self._sorted, b"\xc0")]
            self._continuing[partial] = self._characters(partial, continuations.tolist())
            _bound(self._continuing, MAX_KEPT_COUNTS)
        self._continuing.move_to_end(partial)
        return self._continuing[partial]

    def _characters(self, before: bytes, numbers: Sequence[int]) -> NDArray[np.int32]:
        """Of each token in ``numbers``, how many characters of text it and ``before`` are; of others, and what is no text, far too many."""
        counts = np.full(len(self._pieces), _NEVER, np.int32)
        for number in numbers:
            if self._pieces[number] and (count := _plain_text(before + self._pieces[number])) is not None:
                counts[number] = count
        return counts

    def _shape_tokens(self, language: Language, state: Shape) -> Iterator[int]:
        """Every token that goes on from here: follow the shape's bytes through the sorted vocabulary."""
        todo: list[tuple[bytes, Shape, int, int]] = [(b"", state, 0, len(self._sorted))]
        while todo:
            before, at, low, high = todo.pop()
            for byte, after in language.branches(at):
                prefix = before + bytes([byte])
                first = bisect_left(self._sorted, prefix, low, high)
                end = bisect_left(self._sorted, before + bytes([byte + 1]), first, high)
                whole = bisect_left(self._sorted, prefix + b"\0", first, end)
                yield from self._numbers[first:whole].tolist()
                if whole < end and isinstance(after, Shape):
                    todo.append((prefix, after, whole, end))
                elif whole < end and isinstance(after, Inside):
                    numbers, characters = self._opening(prefix, whole, end)
                    yield from numbers[characters <= language.longest].tolist()

    def _opening(self, prefix: bytes, first: int, end: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tokens that begin with these bytes of the shape and go on as text: their numbers, and the characters of text."""
        if prefix not in self._openings:
            counts = [(place, _plain_text(self._sorted[place][len(prefix) :])) for place in range(first, end)]
            found = [(self._numbers[place], count) for place, count in counts if count is not None]
            numbers, characters = np.array(found, np.int32).reshape(-1, 2).T
            self._openings[prefix] = numbers, characters
        return self._openings[prefix]

    def _bits(self, numbers: NDArray[np.int64]) -> Row:
        allowed = np.zeros(len(self._pieces), np.bool_)
        allowed[numbers] = True
        return _packed(allowed)

    def piece(self, token: int) -> bytes:
        """What a token stands for."""
        return self._pieces[token]


class Writing:
    """One answer on its way."""

    def __init__(self, grammar: Grammar, language: Language) -> None:
        self._grammar = grammar
        self._language = language
        self._state: State = language.start()

    @property
    def ended(self) -> bool:
        """Whether the answer is whole: nothing can follow."""
        return isinstance(self._state, Ended)

    def mask(self) -> Row:
        """The tokens that may come, a bit for each."""
        return self._grammar.mask(self._language, self._state)

    def take(self, token: int) -> bool:
        """Go on with the token that came. Whether it may come: if not, nothing has changed."""
        state: State | None = self._state
        piece = self._grammar.piece(token)
        for byte in piece:
            state = None if state is None else self._language.step(state, byte)
        if state is None or not piece:
            return False
        self._state = state
        return True


def _left(begun: bytes) -> int | None:
    """How many bytes the UTF-8 character that begins so still needs; ``None`` if no character does (Unicode 16, table 3-7)."""
    lead = begun[0]
    length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if 0x80 <= lead < 0xC2 or lead > 0xF4 or len(begun) > length:
        return None
    if len(begun) > 1:
        low = {0xE0: 0xA0, 0xF0: 0x90}.get(lead, 0x80)
        high = {0xED: 0x9F, 0xF4: 0x8F}.get(lead, 0xBF)
        if not low <= begun[1] <= high or not all(0x80 <= byte <= 0xBF for byte in begun[2:]):
            return None
    return length - len(begun)


def _with(state: Inside, partial: bytes) -> Inside:
    return Inside(state.lines, state.characters, partial)


_ANY = Language(labels=(b"a",), most=1, longest=_NEVER)


def _plain_text(piece: bytes) -> int | None:
    """The characters that these bytes begin within a text, if they stay in it and end in no escape."""
    if _USUAL.fullmatch(piece):
        return len(piece)
    state: State = Inside(1, 1)
    for byte in piece:
        if (after := _ANY.step(state, byte)) is None:
            return None
        state = after
    return state.characters - 1 if isinstance(state, Inside) and not state.escaped else None


def _closing(number: int, piece: bytes) -> tuple[int, int] | None:
    """A token that ends a text and goes on in the shape up to the first label at most: its number, and the characters of text."""
    for place in (place for place, byte in enumerate(piece) if byte == _QUOTE):
        if _CLOSE.startswith(piece[place:]):
            characters = _plain_text(piece[:place])
            if characters is not None and _left_open(piece[:place]):
                return None
            return None if characters is None else (number, characters)
    return None


def _left_open(text: bytes) -> bool:
    """Whether the last character is not whole."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return True
    return False


def _packed(allowed: NDArray[np.bool_]) -> Row:
    filled = np.zeros(-(-len(allowed) // BITS) * BITS, np.bool_)
    filled[: len(allowed)] = allowed
    return np.packbits(filled, bitorder="little").view("<i4").astype(np.int32)


def _bound(kept: OrderedDict[Any, Any], most: int) -> None:
    if len(kept) > most:
        kept.popitem(last=False)
