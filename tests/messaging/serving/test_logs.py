"""What must not be in a log cannot get there, whoever writes it."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from messaging.serving.logs import configure_logs, get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go during the test; afterwards all is as before."""
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    stream = io.StringIO()
    configure_logs({"event", "level", "error", "library"}, stream)
    yield stream
    root.handlers, root.level, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_only_what_is_in_the_servers_list_is_written(stream: io.StringIO) -> None:
    get_logger().info("call", error="TimeoutError", number="+4915112345678", path="/v1/messages/CANARY")
    [line] = lines(stream)
    assert line == {"event": "call", "level": "info", "error": "TimeoutError"}


def test_of_an_exception_not_even_the_text_is_written(stream: io.StringIO) -> None:
    try:
        int("CANARY")
    except ValueError as error:
        get_logger().error("failed", error=type(error).__name__, exc_info=True, exception="CANARY")
    assert "CANARY" not in stream.getvalue()
    assert lines(stream)[0]["error"] == "ValueError"


def test_a_library_says_only_who_it_is_and_what_kind_of_error(stream: io.StringIO) -> None:
    try:
        int("CANARY")
    except ValueError:
        logging.getLogger("some.library").exception("CANARY %s", "CANARY")
    logging.getLogger("some.library").info("CANARY")
    assert "CANARY" not in stream.getvalue()
    [line] = lines(stream)
    assert (line["event"], line["library"], line["error"], line["level"]) == (
        "library_line",
        "some",
        "ValueError",
        "error",
    )


def test_a_warning_is_a_line_like_a_librarys(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("CANARY", stacklevel=1)
    assert "CANARY" not in stream.getvalue()
