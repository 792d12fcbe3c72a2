"""How vendors of hardware are reached: the HTTP client under ``attestation.fetching``. No redirects, no cookies, bounded bodies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from attestation.fetching import Request, Response, TransportFailed


class HttpTransport:
    """Sends requests through one session. TLS certificates are checked against the system's authorities."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def fetch(self, request: Request) -> Response:
        """The answer, whatever its status; of its body at most one byte more than the limit is read.

        Raises:
            TransportFailed: none was received.
        """
        try:
            async with self._session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
            ) as response:
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > request.limit:
                        body = body[: request.limit + 1]
                        break
                return Response(response.status, tuple(response.headers.items()), body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise TransportFailed("no answer") from None


@asynccontextmanager
async def http_transport() -> AsyncIterator[HttpTransport]:
    """A transport for as long as the block lasts."""
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar, trust_env=True) as session:
        yield HttpTransport(session)
