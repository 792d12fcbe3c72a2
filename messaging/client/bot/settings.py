"""What a bot needs to start, from arguments and the environment, and where it keeps its things.

An argument beats the environment. What is missing is said with what to do about it.
"""

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attestation.appraisal.policy_file import PolicyKey
from attestation.errors import MalformedPolicy
from messaging.client.errors import ClientError
from messaging.client.stores import derive_key
from messaging.client.stores.sealing import KEY, SALT

RELAY, CA, INVITE = "SUBROSA_RELAY", "SUBROSA_CA", "SUBROSA_INVITE"
HOME, PASSPHRASE = "SUBROSA_BOT_HOME", "SUBROSA_BOT_PASSPHRASE"
POLICY, POLICY_KEY = "SUBROSA_POLICY", "SUBROSA_POLICY_KEY"
REFUSE_NEW_KEYS = "SUBROSA_BOT_REFUSE_NEW_KEYS"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SettingsError(ClientError):
    """Something is missing or wrong; the sentence says what to do."""


class NoRelay(SettingsError):
    """Nobody has said where the relay is."""

    def __init__(self) -> None:
        super().__init__(
            f"where is the relay? Set {RELAY} to its address, as in {RELAY}=https://relay.example.org, "
            "or pass relay= to Bot. To try it out, `python3 dev.py run` starts one and shows its address."
        )


class NoInvite(SettingsError):
    """The bot has no account yet, and nothing to get one with."""

    def __init__(self) -> None:
        super().__init__(
            f"this bot has no account yet: set {INVITE} to an invite for a bot, once, or pass invite= to Bot. "
            "Whoever runs the relay makes one with `subrosa invite create --role bot`."
        )


class OpenToOthers(SettingsError):
    """Other users of this machine could read the bot's keys."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(f"other users of this machine may read {path}: make it yours alone with `chmod {mode} {path}`")


class BrokenKey(SettingsError):
    """The key file was cut or altered."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} does not hold {KEY} bytes: restore it from a backup, since nothing else opens the store"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of one bot. ``invite`` is used once, at the first start. Without a ``passphrase`` the key of the store is in a file.

    ``policy`` is a file that says which enclaves the bot asks, under the signature of ``policy_key``; without one it asks none. With
    ``refuse_new_keys`` whoever has other keys than before is not answered until the owner trusts them.
    """

    name: str
    relay: str
    home: Path
    ca: Path | None = None
    invite: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    policy: Path | None = None
    policy_key: PolicyKey | None = None
    refuse_new_keys: bool = False

    @classmethod
    def read(
        cls,
        name: str,
        environment: Mapping[str, str],
        *,
        relay: str | None = None,
        ca: Path | str | None = None,
        invite: str | None = None,
        home: Path | str | None = None,
        passphrase: str | None = None,
        offline: bool = False,
    ) -> "Settings":
        """From arguments, and where there is none, from the environment; to work ``offline`` no relay is needed.

        Raises:
            NoRelay: neither says where the relay is.
            SettingsError: something is not what it should be.
        """
        relay, ca = relay or environment.get(RELAY, ""), ca or environment.get(CA)
        if not offline:
            _check_relay(relay)
        if ca and not Path(ca).is_file():
            raise SettingsError(f"there is no file of certificates at {ca}: see {CA}")
        return cls(
            name=name,
            relay=relay.rstrip("/"),
            home=home_of(name, environment, home),
            ca=Path(ca) if ca else None,
            invite=invite or environment.get(INVITE) or None,
            passphrase=passphrase or environment.get(PASSPHRASE) or None,
            policy=Path(environment[POLICY]) if environment.get(POLICY) else None,
            policy_key=_policy_key(environment),
            refuse_new_keys=environment.get(REFUSE_NEW_KEYS, "") not in ("", "0"),
        )

    def signed_policy(self) -> bytes | None:
        """The file of the policy, which is read: call it in a thread.

        Raises:
            SettingsError: there is none where it should be.
        """
        try:
            return None if self.policy is None else self.policy.read_bytes()
        except OSError:
            raise SettingsError(f"there is no policy at {self.policy}: see {POLICY}") from None

    @property
    def store_path(self) -> Path:
        """Where the bot's store is."""
        return self.home / "store.db"

    def prepare_home(self) -> None:
        """Make the bot's folder, for its user alone.

        Raises:
            OpenToOthers: it is there, and not for its user alone.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(self.home, "700")

    def store_key(self) -> bytes:
        """The key of the store, 32 bytes: from the passphrase, or from a file that is made the first time.

        Reads and writes files, and takes a tenth of a second with a passphrase: call it in a thread.

        Raises:
            OpenToOthers, BrokenKey: the file cannot be used.
        """
        self.prepare_home()
        if self.passphrase is not None:
            return derive_key(self.passphrase, _kept(self.home / "salt", SALT))
        return _kept(self.home / "key", KEY)


def _policy_key(environment: Mapping[str, str]) -> PolicyKey | None:
    """Whose signature a policy has to carry: without a policy nobody's, and with one somebody's."""
    text = environment.get(POLICY_KEY, "")
    if bool(environment.get(POLICY)) != bool(text):
        raise SettingsError(f"a policy counts under a signature: set both {POLICY} and {POLICY_KEY}, or neither")
    try:
        return PolicyKey.parse(text) if text else None
    except MalformedPolicy as error:
        raise SettingsError(f"{error}: see {POLICY_KEY}") from None


def home_of(name: str, environment: Mapping[str, str], home: Path | str | None = None) -> Path:
    """Where the bot keeps its things."""
    if chosen := home or environment.get(HOME):
        return Path(chosen).expanduser()
    data = environment.get("XDG_DATA_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".local" / "share"
    return Path(data) / "subrosa" / "bots" / name


def _check_relay(relay: str) -> None:
    if not relay:
        raise NoRelay
    if not relay.startswith(("http://", "https://")):
        raise SettingsError(f"the address of a relay begins with https:// (or http:// on this machine): see {RELAY}")


def _kept(path: Path, size: int) -> bytes:
    """The random bytes of a file that is made if there is none; two who make it at the same time get the same."""
    if not path.exists():
        _make(path, secrets.token_bytes(size))
    _check_private(path, "600")
    data = path.read_bytes()
    if len(data) != size:
        raise BrokenKey(path)
    return data


def _make(path: Path, data: bytes) -> None:
    """It appears under its name with all of its content, or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(unfinished)
        except FileExistsError:
            return  # somebody else was faster
    finally:
        unfinished.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _check_private(path: Path, mode: str) -> None:
    if path.stat().st_mode & _OTHERS:
        raise OpenToOthers(path, mode)
