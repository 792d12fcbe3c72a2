"""Invites: codes made by an operator, which prove what a code sent to a number would prove elsewhere.

No I/O: what a code looks like, which terms an invite may have, and whether it is good for a number. An invite says nothing
about who owns a number. Therefore one that is bound to no number is good for new accounts only: nobody takes an account
over with it. An invite for a bot always is, and only for a number that no telephone has, whatever proves numbers
elsewhere. Times are milliseconds since 1970.
"""

import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import is_e164

CODE_BYTES = 10  # 80 bits: 16 characters, of which nobody guesses one in any time
MAX_USES = 10_000
MIN_LIFETIME = 60 * 1000
MAX_LIFETIME = 365 * 24 * 60 * 60 * 1000

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
_BITS = 5
_GROUP = 4
_MEANT = str.maketrans("OIL" + _ALPHABET.lower() + "oil", "011" + _ALPHABET + "011", "- \t")
_UNITS = {"m": 60 * 1000, "h": 60 * 60 * 1000, "d": 24 * 60 * 60 * 1000}
_LIFETIME = re.compile(r"([0-9]{1,6})([mhd])")
_NO_NUMBER = bytes(32)


class Role(StrEnum):
    """What an account is to the operator."""

    MEMBER = "member"
    BOT = "bot"
    OPERATOR = "operator"


class InvalidTerms(ValueError):
    """Terms that no invite may have; the message names the rule."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator decides of an invite. ``lifetime`` is in milliseconds.

    Raises:
        InvalidTerms: a number that is none, a bot bound to a number, or a value beyond its limit.
    """

    role: Role
    uses: int
    lifetime: int
    number: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.uses <= MAX_USES:
            raise InvalidTerms(f"an invite has 1 to {MAX_USES} uses")
        if not MIN_LIFETIME <= self.lifetime <= MAX_LIFETIME:
            raise InvalidTerms("an invite lives from 1 minute to 365 days")
        if self.number is not None and not is_e164(self.number):
            raise InvalidTerms("a number is a plus sign, a country code and digits (E.164)")
        if self.number is not None and self.role is Role.BOT:
            raise InvalidTerms("an invite for a bot makes a new account, and so is bound to no number")


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite as the relay keeps it. The code is not in it."""

    id: int
    role: str
    uses_left: int
    expires_at: int
    created_at: int
    number_hash: bytes | None = field(repr=False)
    revoked: bool

    def state(self, now: int) -> str:
        """For the operator: ``good``, or why it is not."""
        if self.revoked:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "good" if self.uses_left > 0 else "used up"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a good invite gives to the session in which it was submitted."""

    role: str
    new_account_only: bool


# Stands for an invite that does not exist, so that all reasons to refuse take the same way.
_NO_INVITE = Invite(0, Role.MEMBER, 0, 0, 0, None, revoked=True)


def grant_of(
    invite: Invite | None, *, number_hash: bytes, has_telephone: bool, account_exists: bool, bots_only: bool, now: int
) -> Grant | None:
    """What ``invite`` gives for this number; ``None`` if it gives nothing, for whatever reason.

    Args:
        has_telephone: whether the number may be somebody's (``wire.accounts.is_without_telephone``): no bot's is.
        account_exists: whether the number has an account.
        bots_only: people prove their numbers otherwise here, so that an invite for one of them is worth nothing.
    """
    found = _NO_INVITE if invite is None else invite
    bot, bound = found.role == Role.BOT, found.number_hash is not None
    meant = hmac.compare_digest(found.number_hash or _NO_NUMBER, number_hash)
    new_account_only = bot or not bound
    # A list: each condition is looked at, whichever fails.
    good = all(
        [
            found.uses_left > 0,
            not found.revoked,
            now < found.expires_at,
            meant or not bound,
            not (new_account_only and account_exists),
            not has_telephone if bot else not bots_only,
        ],
    )
    return Grant(found.role, new_account_only) if good else None


def new_code() -> str:
    """A fresh code, in groups: ``K7QX-2M4T-9DPA-VB3E``."""
    value = int.from_bytes(secrets.token_bytes(CODE_BYTES))
    letters = [_ALPHABET[value >> shift & 31] for shift in range(CODE_BYTES * 8 - _BITS, -1, -_BITS)]
    return "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))


def hash_code(secret: ServerSecret, code: str) -> bytes:
    """What is kept of a code (HMAC-SHA-256). Case, dashes and spaces do not count; O is 0, I and L are 1."""
    return hmac.digest(secret.invite_key, code.translate(_MEANT).encode(), sha256)


def parse_lifetime(text: str) -> int:
    """``30m``, ``12h`` or ``7d`` in milliseconds.

    Raises:
        InvalidTerms: another form.
    """
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise InvalidTerms("a lifetime is a number with m, h or d, such as 7d")
    return int(found[1]) * _UNITS[found[2]]
