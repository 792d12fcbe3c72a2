"""Which blocks of the cache are free. It counts; what is in them is for ``blocks``."""

from collections.abc import Sequence

PADDING_BLOCK = 0  # is never handed out and always zero: tables of unequal length are filled up with it


class Ledger:
    """Blocks by number, from 1. No block has two owners."""

    def __init__(self, count: int, size: int) -> None:
        """``count`` blocks, each for ``size`` tokens."""
        self.count = count
        self.size = size
        self._free = list(
            range(count, 0, -1)
        )  # the last one is taken first, so that memory is used again while it is warm
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        """How many can be taken."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """How many blocks so many tokens fill."""
        return -(-tokens // self.size)

    def take(self, count: int) -> list[int]:
        """``count`` blocks, which nobody else has.

        Raises:
            ValueError: there are not so many.
        """
        if count > len(self._free):
            raise ValueError("so many blocks are not free")
        blocks = [self._free.pop() for _ in range(count)]
        self._taken.update(blocks)
        return blocks

    def give(self, blocks: Sequence[int]) -> None:
        """Give blocks back. The caller has them zeroed before anybody writes again.

        Raises:
            ValueError: one of them was not taken.
        """
        if len(set(blocks)) != len(blocks) or not self._taken.issuperset(blocks):
            raise ValueError("a block is given back that was not taken")
        self._taken.difference_update(blocks)
        self._free.extend(reversed(blocks))
