"""What a caller is told of the errors of an account."""

import pytest

from messaging.bots.errors import told_of
from messaging.client.bot.inbox import InboxFull
from messaging.client.chats import UnknownConversation
from messaging.client.errors import AccountSuspended, ClientError, CorruptStore, RelayUnreachable, StoreFailed


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownConversation(), 400),
        (RelayUnreachable(), 503),
        (AccountSuspended(), 503),
        (StoreFailed(), 503),
        (InboxFull(), 503),
        (CorruptStore(), 500),
        (ClientError("something new"), 500),
    ],
)
def test_only_what_the_caller_can_mend_is_told_as_theirs(error: ClientError, status: int) -> None:
    assert told_of(error).status == status
    assert str(error) not in told_of(error).description


def test_that_a_bot_is_suspended_is_told_as_what_it_is() -> None:
    assert "suspended by an operator" in told_of(AccountSuspended()).description
