"""What handlers get to know of an event; what they can do is in ``test_bot``."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from messaging.client.bot.account import Account
from messaging.client.bot.context import MessageContext
from tests.messaging.client.bot.events import a_conversation, a_message

NOBODY = cast("Account", None)


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        (1_750_000_000_500, datetime(2025, 6, 15, 15, 6, 40, 500_000, UTC)),
        (253_402_300_799_000, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_800_000, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (8_640_000_000_000_000, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_the_sender_s_clock_may_show_anything(timestamp: int, time: datetime) -> None:
    event = replace(a_message(a_conversation(), 1), timestamp=timestamp)
    assert MessageContext(NOBODY, event).time == time
