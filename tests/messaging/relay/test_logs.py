"""What the relay may write to its log, and what never is."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from messaging.relay.logs import LOGGABLE, configure_logs
from messaging.serving.logs import get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go during the test; afterwards all is as before."""
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    stream = io.StringIO()
    configure_logs(stream)
    yield stream
    root.handlers, root.level, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_only_listed_fields_are_written(stream: io.StringIO) -> None:
    get_logger().info("call", route="/v1/messages/{service_id}", number="+4915112345678", path="/v1/messages/CANARY")
    [line] = lines(stream)
    assert line["route"] == "/v1/messages/{service_id}"
    assert line.keys() <= LOGGABLE
