"""Traces of requests for OpenTelemetry, where an operator asks for them: one span each, of the template of its route and its status.

A span holds no URL, no address, no user agent and no id of anybody; what a client says of traces of its own is not read. Without
``--otlp-endpoint`` nothing here is imported or called: OpenTelemetry is an optional extra of the installation.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from messaging.relay.errors import StartupError
from messaging.relay.traffic import Traffic

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

TRACES_PATH: Final = "/v1/traces"  # OTLP over HTTP, section "OTLP/HTTP Request"
EXPORT_SECONDS: Final = 5
END_SECONDS: Final = 10
_FAULT: Final = 500
_MILLION: Final = 1_000_000


class TracedTraffic(Traffic):
    """Counts calls, and makes a span of some of them: of ``ratio``, from 0 to 1. ``draw`` gives a number from 0 to below 1."""

    def __init__(self, tracer: "Tracer", ratio: float, draw: Callable[[], float] = random.random) -> None:
        super().__init__()
        self._tracer = tracer
        self._ratio = ratio
        self._draw = draw

    def count(self, route: str, verb: str, status: int, milliseconds: float) -> None:
        """Note a call that has been answered."""
        super().count(route, verb, status, milliseconds)
        if self._draw() < self._ratio:
            self._trace(route, verb, status, milliseconds)

    def _trace(self, route: str, verb: str, status: int, milliseconds: float) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, StatusCode

        method = verb if route != "unknown" else "_OTHER"  # a verb can be any word
        ends = time.time_ns()
        span = self._tracer.start_span(
            f"{method} {route}",
            Context(),  # no parent: what a client says is not read
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route, "http.response.status_code": status},
            start_time=ends - round(milliseconds * _MILLION),
        )
        if status >= _FAULT:
            span.set_status(StatusCode.ERROR)
        span.end(ends)


@asynccontextmanager
async def open_traffic(endpoint: str | None, ratio: float, *, node: str, version: str) -> AsyncIterator[Traffic]:
    """What counts calls, while the block lasts: with an ``endpoint`` also for OpenTelemetry, at its end with what is left to send.

    Raises:
        StartupError: no URL, no ratio from 0 to 1, or OpenTelemetry is not installed.
    """
    if endpoint is None:
        yield Traffic()
        return
    if not 0 <= ratio <= 1:
        raise StartupError("--otlp-ratio must be from 0 to 1")
    provider = _provider(_traces_url(endpoint), node, version)
    try:
        yield TracedTraffic(provider.get_tracer("messaging.relay", version), ratio)
    finally:
        await asyncio.wait([asyncio.create_task(asyncio.to_thread(provider.shutdown))], timeout=END_SECONDS)


def _traces_url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartupError("--otlp-endpoint must be a URL: http://HOST:4318 or https://...")
    return endpoint if parts.path.endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH


def _provider(url: str, node: str, version: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ModuleNotFoundError:
        raise StartupError("--otlp-endpoint needs OpenTelemetry: pip install 'subrosa[telemetry]'") from None
    resource = Resource({"service.name": "subrosa-relay", "service.version": version, "service.instance.id": node})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)))
    return provider
