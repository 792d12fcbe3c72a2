"""How ``subrosa bot`` reaches a gateway that runs: a socket in its home, which nobody but its user can open. A line each way, in JSON."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from messaging.bots.operator import NotPossible, Operator
from messaging.client.errors import ClientError

SOCKET = "control.sock"
MAX_LINE = 256 * 1024  # bytes
ASK_SECONDS = 120.0  # for one action; registering an account takes the longest
READ_SECONDS = 10.0
_MAX_PATH = 100  # bytes that the path of a socket may have (unix(7): 108)


@asynccontextmanager
async def controlled(operator: Operator, home: Path) -> AsyncIterator[bool]:
    """Do what comes through the socket in ``home``, until the end of the block; gives whether there is one.

    Where the path is too long for a socket there is none: then bots are made while the gateway is stopped.
    """
    path = home / SOCKET
    if len(str(path).encode()) > _MAX_PATH:
        yield False
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(json.dumps(await _answer(operator, reader)).encode() + b"\n")
            await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, path, limit=MAX_LINE)
    path.chmod(0o600)
    try:
        yield True
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _answer(operator: Operator, reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READ_SECONDS):
            action, given = json.loads(await reader.readline())
        return {"done": await operator.do(action, given)}
    except ClientError as error:
        return {"error": str(error)}
    except (ValueError, TypeError, TimeoutError):
        return {"error": "the gateway did not understand: is it of another version?"}
    except Exception as error:  # noqa: BLE001 - whoever asks is told, and the gateway goes on
        return {"error": f"the gateway could not do it ({type(error).__name__})"}


async def ask(home: Path, action: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Have a running gateway do an action; ``None`` if none runs in ``home``.

    Raises:
        NotPossible: it could not; the sentence says why.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(home / SOCKET, limit=MAX_LINE)
    except OSError:
        return None
    try:
        writer.write(json.dumps([action, given]).encode() + b"\n")
        async with asyncio.timeout(ASK_SECONDS):
            answer = json.loads(await reader.readline())
    except TimeoutError:
        raise NotPossible("the gateway did not answer in time") from None
    except (OSError, ValueError):
        raise NotPossible("the gateway ended while it was asked") from None
    finally:
        writer.close()
    if "error" in answer:
        raise NotPossible(answer["error"])
    done: dict[str, Any] = answer["done"]
    return done
