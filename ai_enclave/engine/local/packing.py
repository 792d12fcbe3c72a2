"""One step as one row of numbers: tokens of prompts and of answers side by side, without padding between them.

The row goes to the device in one transfer and is cut up there. Only where keys of several sequences are read together are their tables of
blocks filled up to one length, and sequences are grouped so that this is little.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ai_enclave.engine.local.ledger import PADDING_BLOCK

Row = NDArray[np.int32]
BITS = 32  # of one word of a mask
_STEP = 8
_MOST_PADDING = 0.25  # of the blocks that a group really has
_FREE_PADDING = 128  # blocks: less than this costs less than one more group


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of one sequence, in order.

    ``start`` is the position of the first of them; ``blocks`` are those of the whole sequence, from its first position on, with
    room for these. If ``samples``, the next token is asked for, out of those whose bits are set in ``allowed``, or of all.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    samples: bool
    allowed: Row | None = None  # a bit for each token of the vocabulary, least first


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours in the row with equally many tokens, which attention takes together.

    ``width`` is the number of blocks that are read for each; 0 if the tokens are the first of their sequences, so that they
    see each other and nothing older.
    """

    sequences: int
    tokens: int  # of each sequence
    width: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A step. ``row`` holds one after the other: tokens, positions, slots, rows that sample, constrained samples, tables, masks."""

    row: Row
    groups: tuple[Group, ...]
    tokens: int
    samples: int
    constrained: int
    table: int  # length of all tables
    order: tuple[int, ...]  # for each sample, which piece it belongs to


def filled(rows: int) -> int:
    """To how many rows a matrix is filled up before it is multiplied: what multiplies keeps memory for each number that it meets."""
    if rows <= _STEP:
        return 1 << max(rows - 1, 0).bit_length()
    step = _STEP if rows <= _STEP * _STEP else _STEP * _STEP
    return -(-rows // step) * step


def pack(pieces: Sequence[Piece], block_size: int) -> Packed:
    """Put pieces in an order that attention likes, and write down all that the device must know."""
    groups = list(_groups(pieces, block_size))
    order = [number for _, members in groups for number in members]
    placed = [pieces[number] for number in order]
    ends = np.cumsum([len(piece.tokens) for piece in placed]) - 1
    sampling = [place for place, piece in enumerate(placed) if piece.samples]
    masks = [
        (sample, allowed) for sample, place in enumerate(sampling) if (allowed := placed[place].allowed) is not None
    ]
    tables = [_table(pieces[number].blocks, group.width) for group, members in groups for number in members]
    parts = [
        np.fromiter(itertools.chain.from_iterable(piece.tokens for piece in placed), np.int32),
        *(np.arange(piece.start, piece.start + len(piece.tokens), dtype=np.int32) for piece in placed),
        *(_slots(piece, block_size) for piece in placed),
        ends[sampling].astype(np.int32),
        np.array([sample for sample, _ in masks], np.int32),
        *tables,
        *(allowed for _, allowed in masks),
    ]
    return Packed(
        row=np.concatenate(parts),
        groups=tuple(group for group, _ in groups),
        tokens=int(ends[-1]) + 1,
        samples=len(sampling),
        constrained=len(masks),
        table=sum(map(len, tables)),
        order=tuple(order[place] for place in sampling),
    )


def _groups(pieces: Sequence[Piece], block_size: int) -> Iterator[tuple[Group, list[int]]]:
    """Groups, each with the numbers of its pieces."""
    shapes = [_Shape(number, len(piece.tokens), _width(piece, block_size)) for number, piece in enumerate(pieces)]
    shapes.sort(key=attrgetter("tokens", "width"), reverse=True)
    for tokens, alike in itertools.groupby(shapes, key=attrgetter("tokens")):
        for group in _by_width(list(alike)):
            yield Group(len(group), tokens, group[0].width), [shape.number for shape in group]


@dataclass(frozen=True, slots=True)
class _Shape:
    number: int
    tokens: int
    width: int


def _width(piece: Piece, block_size: int) -> int:
    return -(-(piece.start + len(piece.tokens)) // block_size) if piece.start else 0


def _by_width(shapes: Sequence[_Shape]) -> Iterator[list[_Shape]]:
    """Cut where filling up to the widest, which stands first, would be too much. Width 0 is a group of its own."""
    group: list[_Shape] = []
    real = 0
    for shape in shapes:
        if group and _too_much(group[0].width, len(group) + 1, real + shape.width, shape.width):
            yield group
            group, real = [], 0
        group.append(shape)
        real += shape.width
    yield group


def _too_much(widest: int, count: int, real: int, width: int) -> bool:
    return (width == 0 and widest > 0) or widest * count - real > max(_FREE_PADDING, _MOST_PADDING * real)


def _table(blocks: Sequence[int], width: int) -> Row:
    table = np.full(width, PADDING_BLOCK, np.int32)
    used = blocks[:width]
    table[: len(used)] = used
    return table


def _slots(piece: Piece, block_size: int) -> Row:
    """Where each token's keys and values are written."""
    if len(piece.tokens) == 1:
        return np.array([piece.blocks[piece.start // block_size] * block_size + piece.start % block_size], np.int32)
    positions = np.arange(piece.start, piece.start + len(piece.tokens))
    return (np.asarray(piece.blocks)[positions // block_size] * block_size + positions % block_size).astype(np.int32)
