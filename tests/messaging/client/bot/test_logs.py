"""A log line holds those facts that may be told, and no others."""

import logging

import pytest

from messaging.client.bot.logs import LOGGER, say


def test_only_what_may_be_told_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    say(logging.INFO, "handled", kind="message", count=3, text="canary", sender="canary")
    [record] = caplog.records
    assert record.getMessage() == "handled kind=message count=3"
    assert (record.name, record.__dict__["kind"], record.__dict__["count"]) == (LOGGER, "message", 3)
    assert "canary" not in str(record.__dict__)
