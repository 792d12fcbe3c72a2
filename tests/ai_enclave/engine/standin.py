"""A model server with no model: it speaks vLLM's protocol on loopback, answers at once, and misbehaves when told to.

It keeps to ``response_format``, counts words as tokens, and has a prefix cache of its own that heeds ``cache_salt``.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

CONTEXT = 2000  # words
Chat = dict[str, Any]  # the body of a request
Behaviour = Callable[["StandIn", web.Request, Chat], Awaitable[web.StreamResponse]]


@dataclass
class StandIn:
    """What it does next, and what it saw."""

    model: str = "tiny"
    text: str = "One answer, of a few words."
    lines: Callable[[Chat], list[dict[str, object]]] | None = None
    pause: float = 0.0  # seconds between two pieces
    healthy: bool = True
    heeds_salts: bool = True
    behaviours: deque[Behaviour] = field(default_factory=deque)  # for the next requests, one each
    seen: list[Chat] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    hung_up: int = 0  # answers whose reader went away
    cache: set[tuple[str, str]] = field(default_factory=set)
    url: str = ""

    @asynccontextmanager
    async def listening(self, socket: Path | None = None) -> AsyncIterator["StandIn"]:
        """Serve on a free port of 127.0.0.1, or on a Unix socket."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_route("*", "/{other:.*}", self._other)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        if socket is None:
            site: web.BaseSite = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        else:
            site = web.UnixSite(runner, socket)
            await site.start()
            self.url = f"unix:{socket}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _other(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        return web.Response(status=404)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body: Chat = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            behave = self.behaviours.popleft() if self.behaviours else well
            return await behave(self, request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up += 1
            raise
        finally:
            self.running -= 1

    def answer(self, body: Chat) -> str:
        """What there is to say."""
        form = body.get("response_format")
        if form is None:
            return self.text
        if self.lines is not None:
            return json.dumps(self.lines(body))
        schema = form["json_schema"]["schema"]
        label = schema["items"]["properties"]["cites"]["items"]["enum"][0]
        return json.dumps([{"text": "A line 🙂", "cites": [label]}][: schema["maxItems"]], ensure_ascii=False)

    def usage(self, body: Chat, tokens: int) -> dict[str, object]:
        """Counts; of the prompt, what this salt has brought before is in the cache."""
        prompt = json.dumps(body["messages"])
        key = (body["cache_salt"] if self.heeds_salts else "", prompt)
        cached = len(prompt.split()) if key in self.cache else 0
        self.cache.add(key)
        details = {"cached_tokens": cached} if cached else None  # vLLM leaves it out at zero
        return {"prompt_tokens": len(prompt.split()), "completion_tokens": tokens, "prompt_tokens_details": details}


def pieces(text: str, size: int = 4) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    """One event, as vLLM writes them."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return event(json.dumps({"object": "chat.completion.chunk", "choices": [choice], **more}))


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def usage_chunk(usage: dict[str, object]) -> bytes:
    return event(json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage}))


DONE = event("[DONE]")


async def begin(request: web.Request, content_type: str = "text/event-stream") -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    return response


async def well(server: StandIn, request: web.Request, body: Chat) -> web.StreamResponse:
    """As it should be."""
    if len(json.dumps(body["messages"]).split()) + body["max_tokens"] > CONTEXT:
        return await too_long(server, request, body)
    response = await begin(request)
    await response.write(event(json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})))
    parts = list(pieces(server.answer(body)))
    for part in parts[: body["max_tokens"]]:
        await response.write(chunk(part))
        await asyncio.sleep(server.pause)
    await response.write(chunk("", "stop" if len(parts) <= body["max_tokens"] else "length"))
    await response.write(usage_chunk(server.usage(body, min(len(parts), body["max_tokens"]))))
    await response.write(DONE)
    return response


async def too_long(_server: StandIn, _request: web.Request, _body: Chat) -> web.StreamResponse:
    message = f"You passed 9999 input tokens. However, the model's context length is only {CONTEXT} tokens."
    error = {"message": message, "type": "BadRequestError", "param": "input_tokens", "code": 400}
    return web.json_response({"error": error}, status=400)


def status(code: int, **headers: str) -> Behaviour:
    """Answer with a status and a text that must not be repeated."""

    async def behave(_server: StandIn, _request: web.Request, _body: Chat) -> web.StreamResponse:
        return web.Response(status=code, text="SECRET words of the server", headers=headers)

    return behave


def says(*parts: bytes, content_type: str = "text/event-stream") -> Behaviour:
    """Answer with these bytes, and end properly."""

    async def behave(_server: StandIn, request: web.Request, _body: Chat) -> web.StreamResponse:
        response = await begin(request, content_type)
        for part in parts:
            await response.write(part)
        return response

    return behave


def cuts(*parts: bytes) -> Behaviour:
    """Answer with these bytes, and drop the connection."""

    async def behave(_server: StandIn, request: web.Request, _body: Chat) -> web.StreamResponse:
        response = await begin(request)
        for part in parts:
            await response.write(part)
        assert request.transport is not None
        request.transport.abort()
        return response

    return behave


def hangs(*parts: bytes) -> Behaviour:
    """Answer with these bytes, and then say nothing."""

    async def behave(_server: StandIn, request: web.Request, _body: Chat) -> web.StreamResponse:
        response = await begin(request)
        for part in parts:
            await response.write(part)
        await asyncio.Event().wait()
        return response

    return behave


async def says_nothing(_server: StandIn, request: web.Request, _body: Chat) -> web.StreamResponse:
    """Take the request, and not even send a head."""
    await asyncio.Event().wait()
    return await begin(request)


def never_ends(part: bytes) -> Behaviour:
    """Repeat these bytes until nobody listens."""

    async def behave(_server: StandIn, request: web.Request, _body: Chat) -> web.StreamResponse:
        response = await begin(request)
        while True:
            await response.write(part)
            await asyncio.sleep(0)  # or nobody else would have a turn

    return behave
