"""What is going on, on standard error: figures go to standard output, and to files, alone."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def followed(items: Iterable[T], what: str) -> Iterator[T]:
    """The same items; while they are taken, a line says how many are done, and at the end how long it took."""
    count = len(items) if isinstance(items, Sized) else None
    began = time.monotonic()
    for done, item in enumerate(items):
        if sys.stderr.isatty():
            print(f"\r· {what} ... {done}{'' if count is None else f' of {count}'}   ", end="", file=sys.stderr)
        yield item
    start = "\r" if sys.stderr.isatty() else ""
    print(f"{start}· {what} ... done in {time.monotonic() - began:.1f} s   ", file=sys.stderr, flush=True)
