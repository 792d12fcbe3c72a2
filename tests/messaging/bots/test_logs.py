"""What may be written to the log, and what never is."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from messaging.bots.logs import LOGGABLE, configure_logs, get_logger


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


def test_of_a_library_it_is_told_that_it_spoke_and_of_what_error(stream: io.StringIO) -> None:
    try:
        int("CANARY")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("CANARY %s", "CANARY")
    line = json.loads(stream.getvalue())
    assert (line["library"], line["error"]) == ("aiohttp", "ValueError")
    assert "CANARY" not in stream.getvalue()
