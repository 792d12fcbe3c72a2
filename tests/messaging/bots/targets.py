"""A webhook's target as a real HTTP server: it verifies what comes with the library of Standard Webhooks, and answers as told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

Answer = int | Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Target:
    """What came: the updates, and the headers of each. Each answer is used once, the last for ever."""

    answers: list[Answer]
    url: str = ""
    secret: str = ""
    updates: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body, headers = await request.read(), {name.lower(): value for name, value in request.headers.items()}
        if self.secret:
            try:
                Webhook(self.secret).verify(body, headers)
            except WebhookVerificationError:
                self.refused += 1
                return web.Response(status=401)
        update = json.loads(body)
        self.updates.append(update)
        self.headers.append(headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=answer) if isinstance(answer, int) else await answer(request, update)

    @property
    def texts(self) -> list[str]:
        """Of the messages that came, in the order in which they came."""
        return [update["message"]["text"] for update in self.updates if "message" in update]

    @property
    def texts_or_files(self) -> list[str]:
        """Of the messages that came, the texts, or the names of their files."""
        messages = [update["message"] for update in self.updates if "message" in update]
        return [each["document"]["file_name"] if "document" in each else each["text"] for each in messages]


@asynccontextmanager
async def target(*answers: Answer, port: int = 0) -> AsyncIterator[Target]:
    """Run a target that answers so, one after the other."""
    found = Target(list(answers or [200]))
    runner = web.ServerRunner(web.Server(found.handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield found
    finally:
        await runner.cleanup()


def answering(body: Any, status: int = 200, **headers: str) -> Answer:  # noqa: ANN401 - JSON
    """An answer with a body."""

    async def answer(_request: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return answer


async def dribble(request: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
    """An answer that begins and never ends: a byte now and then."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def flood(request: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
    """An answer without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def hang_up(request: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
    """No answer at all."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
