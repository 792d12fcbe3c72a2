"""An argument beats the environment, what is missing is said with what to do, and keys are for their user alone."""

import stat
from pathlib import Path

import pytest

from messaging.client.bot.settings import (
    CA,
    HOME,
    INVITE,
    PASSPHRASE,
    RELAY,
    BrokenKey,
    NoRelay,
    OpenToOthers,
    Settings,
    SettingsError,
)
from messaging.client.stores import derive_key

URL = "https://relay.example.org"


def test_all_of_it_may_stand_in_the_environment(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    environment = {RELAY: f"{URL}/", CA: str(ca), INVITE: "code", HOME: str(tmp_path / "bot"), PASSPHRASE: "words"}
    assert Settings.read("echo", environment) == Settings(
        name="echo", relay=URL, home=tmp_path / "bot", ca=ca, invite="code", passphrase="words"
    )


def test_an_argument_beats_the_environment(tmp_path: Path) -> None:
    environment = {RELAY: "https://other", CA: "/nowhere", INVITE: "other", HOME: "/other", PASSPHRASE: "other"}
    ca = tmp_path / "ca.pem"
    ca.touch()
    given = Settings.read("echo", environment, relay=URL, ca=str(ca), invite="code", home=tmp_path, passphrase="words")
    assert given == Settings(name="echo", relay=URL, home=tmp_path, ca=ca, invite="code", passphrase="words")


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"HOME": "/home/ann"}, "/home/ann/.local/share/subrosa/bots/echo"),
        ({"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}, "/data/subrosa/bots/echo"),
        ({"HOME": "/home/ann", HOME: "/bots/mine"}, "/bots/mine"),
    ],
)
def test_a_bot_has_a_folder_of_its_own(environment: dict[str, str], home: str) -> None:
    assert Settings.read("echo", environment, relay=URL).home == Path(home)


def test_without_a_relay_it_says_how_to_name_one() -> None:
    with pytest.raises(NoRelay, match=f"Set {RELAY} to its address"):
        Settings.read("echo", {})
    assert Settings.read("echo", {}, offline=True).relay == ""


@pytest.mark.parametrize("relay", ["relay.example.org", "ftp://relay"])
def test_an_address_that_is_none_is_refused(relay: str) -> None:
    with pytest.raises(SettingsError, match="begins with https://"):
        Settings.read("echo", {RELAY: relay})


def test_a_file_of_certificates_that_there_is_not_is_named() -> None:
    with pytest.raises(SettingsError, match=r"/nowhere/ca\.pem"):
        Settings.read("echo", {RELAY: URL, CA: "/nowhere/ca.pem"})


def test_secrets_are_not_shown() -> None:
    shown = repr(Settings.read("echo", {RELAY: URL, INVITE: "canary", PASSPHRASE: "canary"}))
    assert "canary" not in shown


def test_the_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    settings = Settings(name="echo", relay=URL, home=tmp_path / "new" / "bot")
    key = settings.store_key()
    assert len(key) == 32
    assert settings.store_key() == key
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((settings.home / "key").stat().st_mode) == 0o600
    assert [each.name for each in settings.home.iterdir()] == ["key"]


def test_a_passphrase_makes_the_key_with_a_salt_of_its_own(tmp_path: Path) -> None:
    one, two = (Settings(name="echo", relay=URL, home=tmp_path / name, passphrase="words") for name in ("a", "b"))
    key = one.store_key()
    assert key == one.store_key() == derive_key("words", (one.home / "salt").read_bytes())
    assert key != two.store_key()
    assert not (one.home / "key").exists()


@pytest.mark.parametrize("mode", [0o750, 0o705])
def test_a_folder_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "bot"
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(OpenToOthers, match=f"chmod 700 {home}"):
        Settings(name="echo", relay=URL, home=home).store_key()


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    settings = Settings(name="echo", relay=URL, home=tmp_path / "bot")
    settings.store_key()
    (settings.home / "key").chmod(mode)
    with pytest.raises(OpenToOthers, match="chmod 600"):
        settings.store_key()


def test_a_key_that_was_cut_is_not_replaced(tmp_path: Path) -> None:
    settings = Settings(name="echo", relay=URL, home=tmp_path / "bot")
    settings.store_key()
    (settings.home / "key").write_bytes(bytes(31))
    with pytest.raises(BrokenKey, match="backup"):
        settings.store_key()
    assert (settings.home / "key").read_bytes() == bytes(31)
