"""The one secret, and the keys that come of it."""

import stat
from dataclasses import astuple, fields
from pathlib import Path

import pytest

from messaging.relay.errors import StartupError
from messaging.relay.server_secret import ServerSecret, read_secret, secret_of


def test_a_secret_gives_the_same_keys_each_time_and_another_gives_others() -> None:
    one, again, other = (ServerSecret.derive(byte * 32) for byte in (b"a", b"a", b"b"))
    assert one == again
    assert len({*astuple(one), *astuple(other)}) == 2 * len(fields(ServerSecret))


def test_a_number_is_hashed_under_the_key() -> None:
    one, other = ServerSecret.derive(bytes(32)), ServerSecret.derive(b"a" * 32)
    assert one.number_hash("+4915112345678") != other.number_hash("+4915112345678")


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    made = read_secret(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(path, create=True) == read_secret(path, create=False) == made
    assert list(path.parent.iterdir()) == [path]


def test_without_the_file_the_relay_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="secret file"):
        read_secret(tmp_path / "secret", create=False)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StartupError, match="32 random bytes"):
        read_secret(tmp_path / "secret", create=False)


def test_it_is_in_the_named_file_or_beside_sqlites(tmp_path: Path) -> None:
    database, named = tmp_path / "relay.db", tmp_path / "named"
    with pytest.raises(StartupError, match="cannot read"):
        secret_of(None, database, create=False)
    beside = secret_of(None, database, create=True)
    assert read_secret(tmp_path / "relay.db.secret", create=False) == beside
    with pytest.raises(StartupError, match="cannot read"):
        secret_of(named, database, create=True)
    named.write_bytes(bytes(32))
    assert secret_of(named, None, create=False) == ServerSecret.derive(bytes(32))
    with pytest.raises(StartupError, match="with PostgreSQL"):
        secret_of(None, None, create=True)


def test_the_keys_have_no_repr() -> None:
    assert "b'" not in repr(ServerSecret.derive(bytes(32)))
