"""What may be written to the log, and what never is."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from messaging.bots.logs import LOGGABLE, configure_logs
from messaging.serving.logs import get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level, raising = root.handlers, root.level, logging.raiseExceptions
    found = io.StringIO()
    configure_logs(found)
    yield found
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, logging.raiseExceptions = before, raising
    root.setLevel(level)


def test_only_what_is_listed_is_written(stream: io.StringIO) -> None:
    get_logger().warning("delivered", method="getMe", chat_id="CANARY", text="CANARY", token="CANARY", status=200)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["method"], line["status"]) == ("delivered", "getMe", 200)
    assert line.keys() <= LOGGABLE
    assert "CANARY" not in stream.getvalue()
