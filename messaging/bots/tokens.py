"""Tokens: ``NUMBER:SECRET``, as libraries for Telegram's bots expect them. Only a hash of one is kept. No I/O.

The secret is 256 random bits, so one SHA-256 is enough: nobody finds such a preimage by trying, and a slow hash, which makes up for
what people choose as passwords, would only make every request slow.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from messaging.bots.errors import Unauthorized

READ, SEND, MANAGE = "read", "send", "manage"
SCOPES = frozenset({READ, SEND, MANAGE})
ALL = "all"
_FORM = re.compile(r"([0-9]{1,19}):([A-Za-z0-9_-]{35,64})")
_SECRET = 32  # bytes
_DOMAIN = b"subrosa bot token v1\x00"


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. ``id`` names it and opens nothing; times are milliseconds since 1970.

    One that is ``replaced`` has given way to another: that it is valid for a while more gives it no further one.
    """

    id: str
    bot: int
    digest: bytes = field(repr=False)
    scopes: frozenset[str]
    created_at: int
    expires_at: int | None = None
    replaced: bool = False

    @classmethod
    def make(cls, bot: int, scopes: Collection[str], *, now: int, expires_at: int | None = None) -> "tuple[str, Token]":
        """A new token: what its user gets, which is shown once, and what is kept.

        Raises:
            ValueError: no scope, or one that there is not.
        """
        named = SCOPES if ALL in scopes else frozenset(scopes)
        if not named or not named <= SCOPES:
            raise ValueError("a token has one or more of the scopes read, send and manage, or all")
        text = f"{bot}:{secrets.token_urlsafe(_SECRET)}"
        return text, cls(secrets.token_hex(4), bot, digest_of(text), named, now, expires_at)

    def is_valid(self, now: int) -> bool:
        """Whether it opens anything at ``now``."""
        return self.expires_at is None or now < self.expires_at

    def until(self, moment: int) -> Self:
        """The same token, now that another one replaces it: valid until ``moment`` at most."""
        end = moment if self.expires_at is None else min(moment, self.expires_at)
        return replace(self, expires_at=end, replaced=True)

    def encode(self) -> bytes:
        """For the store."""
        members = [
            self.id,
            self.bot,
            self.digest.hex(),
            sorted(self.scopes),
            self.created_at,
            self.expires_at,
            self.replaced,
        ]
        return json.dumps(members).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Token":
        """Undo :meth:`encode`."""
        name, bot, digest, scopes, created_at, expires_at, *replaced = json.loads(data)
        return cls(name, bot, bytes.fromhex(digest), frozenset(scopes), created_at, expires_at, replaced == [True])


def digest_of(text: str) -> bytes:
    """What is kept of a token, 32 bytes."""
    return hashlib.sha256(_DOMAIN + text.encode()).digest()


def bot_of(text: str) -> int:
    """The bot that a token says it is of.

    Raises:
        Unauthorized: it has not the form of a token.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise Unauthorized
    return int(found[1])


def find_token(tokens: Iterable[Token], text: str, *, now: int) -> Token:
    """The token among those of one bot that ``text`` is. All are compared, each in constant time.

    Raises:
        Unauthorized: none of them, or it is not valid any more.
    """
    digest, found = digest_of(text), None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    if found is None or not found.is_valid(now):
        raise Unauthorized
    return found
