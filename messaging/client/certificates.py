"""The sender certificate: with it a sealed message shows its recipient, and nobody else, who wrote it.

The relay issues it for a day. It is fetched when it is needed, checked, and kept in memory until shortly before it expires.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from messaging.client.account import Account
from messaging.client.errors import RelayRefused, TrustRootChanged
from messaging.client.requests import Requests
from messaging.wire.errors import WireError
from messaging.wire.messages import DeliveryCertificate
from signal_protocol.public.certificates import verify_sender_certificate
from signal_protocol.public.errors import PublicError

MARGIN = 60 * 60 * 1000  # milliseconds before its end from which a certificate is used no more
_PATH = "/v1/certificate/delivery"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A serialized sender certificate; ``expires`` is milliseconds since 1970."""

    data: bytes = field(repr=False)
    expires: int

    def is_fresh(self, now: int) -> bool:
        """Whether there is time enough to send with it."""
        return is_fresh(self.expires, now)


def is_fresh(expires: int, now: int) -> bool:
    """Whether what was sealed with a certificate that ``expires`` then can still be sent: milliseconds since 1970."""
    return now < expires - MARGIN


class Certificates:
    """The certificate of one device."""

    def __init__(self, account: Account, requests: Requests, now: Callable[[], int]) -> None:
        self._account = account
        self._requests = requests
        self._now = now
        self._current: Certificate | None = None
        self._fetching = asyncio.Lock()

    async def current(self) -> Certificate:
        """One that is good for at least an hour.

        Raises:
            RelayUnreachable, RelayRefused: the relay gave none.
            TrustRootChanged: it is not for this device, or not vouched for by the trust root seen at registration.
        """
        async with self._fetching:
            if self._current is None or not self._current.is_fresh(self._now()):
                self._current = await self._fetch()
            return self._current

    async def _fetch(self) -> Certificate:
        answer = await self._requests.authenticated("GET", _PATH)
        if answer.status != 200:
            raise RelayRefused(answer.status)
        try:
            data = DeliveryCertificate.from_json(answer.body or b"").certificate
            # It was issued a moment ago by the relay's clock, and receivers go by that clock too: ours does not count.
            found = verify_sender_certificate(data, trust_roots=[self._account.trust_root], now=0)
        except (WireError, PublicError):
            raise TrustRootChanged from None  # receivers, who know the same root, would not read it either
        if (found.sender, found.device_id, found.identity_key) != (
            self._account.service_id.uuid,
            self._account.device_id,
            self._account.identity.public_key,
        ):
            raise TrustRootChanged
        return Certificate(data, found.expires)
