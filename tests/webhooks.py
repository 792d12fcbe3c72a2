"""An operator's sender of codes, as a real HTTP server on the loopback: it verifies signatures and answers as told."""

import base64
import hmac
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

TOLERANCE_SECONDS = 300  # what the libraries of Standard Webhooks allow

Reaction = Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """What arrived: ids and bodies of requests whose signature was right. Each answer is used once, the last for ever."""

    key: bytes
    answers: list[int | Reaction]
    url: str = ""
    ids: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    def verifies(self, headers: dict[str, str], body: bytes) -> bool:
        """The check of the specification, written from its text."""
        message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        expected = hmac.new(self.key, b".".join([message_id.encode(), timestamp.encode(), body]), "sha256").digest()
        given = [entry.partition(",") for entry in headers["webhook-signature"].split(" ")]
        return abs(time.time() - int(timestamp)) < TOLERANCE_SECONDS and any(
            version == "v1" and hmac.compare_digest(base64.b64decode(signature), expected)
            for version, _, signature in given
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers, data = {name.lower(): value for name, value in request.headers.items()}, await request.read()
        if request.method != "POST" or not self.verifies(headers, data):
            self.refused += 1
            return web.Response(status=401)
        body = json.loads(data)
        self.ids.append(headers["webhook-id"])
        self.bodies.append(body)
        self.headers.append(headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=answer) if isinstance(answer, int) else await answer(request, body)

    def secret_file(self, folder: Path) -> Path:
        """The secret as an operator writes it."""
        path = folder / "webhook.secret"
        path.write_text(f"whsec_{base64.b64encode(self.key).decode()}\n")
        return path


@asynccontextmanager
async def receiving(*answers: int | Reaction, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver that answers with these statuses, one after the other."""
    receiver = Receiver(secrets.token_bytes(32), list(answers or [204]))
    runner = web.ServerRunner(web.Server(receiver.handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme, port = "http" if tls is None else "https", runner.addresses[0][1]
        receiver.url = f"{scheme}://127.0.0.1:{port}/codes?token=CANARY"
        yield receiver
    finally:
        await runner.cleanup()
