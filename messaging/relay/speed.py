"""What makes a relay several times slower without anybody noticing: libraries that came without their compiled parts."""

from collections.abc import Callable, Iterator
from importlib import import_module

import redis.utils

_COMPILED = (
    ("aiohttp", "aiohttp._http_parser", "HTTP costs 4 times as much"),
    ("aiohttp", "aiohttp._websocket.reader_c", "sockets cost more"),
    ("aiohttp", "aiohttp._http_writer", "HTTP costs more"),
    ("multidict", "multidict._multidict", "HTTP costs more"),
    ("asyncpg", "asyncpg.protocol.protocol", "PostgreSQL costs more"),
    ("protobuf", "google._upb._message", "sockets cost several times as much"),
)


def what_is_slow(load: Callable[[str], object] = import_module) -> Iterator[str]:
    """A sentence for each compiled part that is missing."""
    for library, module, cost in _COMPILED:
        try:
            load(module)
        except ImportError:
            yield f"warning: {library} is installed without its compiled part ({module}): {cost}. Install its wheel"
    if not redis.utils.HIREDIS_AVAILABLE:
        yield "warning: hiredis is missing: Redis costs more. Install redis[hiredis]"
