"""Notices within a process."""

from messaging.relay.delivery.wakeups import CredentialsReplaced, Heard, LocalWakeups, MailArrived, listening


async def test_each_listener_of_a_mailbox_hears_its_notices_while_it_listens() -> None:
    wakeups, one, two, other = LocalWakeups(), list[Heard](), list[Heard](), list[Heard]()
    async with listening(wakeups, 1, one.append), listening(wakeups, 2, other.append):
        async with listening(wakeups, 1, two.append):
            wakeups.announce(1, MailArrived(5))
            assert (sorted(wakeups.mailboxes()), wakeups.count(1)) == ([1, 2], 2)
        wakeups.announce(1, CredentialsReplaced())
    wakeups.announce(1, MailArrived(6))
    assert (one, two, other) == ([MailArrived(5), CredentialsReplaced()], [MailArrived(5)], [])
    assert wakeups.mailboxes() == []


async def test_connected_is_a_mailbox_that_somebody_listens_to() -> None:
    wakeups, heard = LocalWakeups(), list[Heard]()
    async with listening(wakeups, 1, heard.append), listening(wakeups, 3, heard.append):
        assert await wakeups.connected([1, 2]) == {1}
    assert await wakeups.connected([1, 2]) == set()
