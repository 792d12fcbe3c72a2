"""Which addresses are this machine's alone. How connections answer what is not HTTP is tested with each server."""

import pytest

from messaging.serving.http import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_what_only_this_machine_can_reach(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.5", "example.org", ""])  # noqa: S104
def test_what_others_can_reach(host: str) -> None:
    assert not is_loopback(host)
