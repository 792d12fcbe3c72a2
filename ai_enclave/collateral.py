"""What the vendors say about this machine, fetched here and stapled to its evidence.

So no client has to ask AMD, Intel or NVIDIA, who would learn from it which clients there are. The documents are dated and
signed by their vendors: a client trusts them no more for coming from here, and judges their age itself. They are the only thing
of an enclave that may be kept on disk, in a folder that the operator names; nothing of a user is in them.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path

from ai_enclave.limits import COLLATERAL_FIRST_RETRY, COLLATERAL_REFRESH, COLLATERAL_SECONDS
from attestation.collateral import NO_COLLATERAL, Collateral
from attestation.document import EvidenceDocument
from attestation.fetching import CachedTransport, RateLimited, Transport, gather
from messaging.client.vendors import http_transport

OpenTransport = Callable[[], AbstractAsyncContextManager[Transport]]


class StapledCollateral:
    """The newest collateral that could be had, all from one look at the vendors.

    Args:
        folder: where vendors' answers are kept between starts, for this user alone; ``None``: nowhere.
        now: the clock by which kept answers age.
        transport: opens the way to the vendors.
        sleep: waits for some seconds.
        seconds: for one look.
    """

    def __init__(
        self,
        folder: Path | None,
        now: Callable[[], datetime],
        *,
        transport: OpenTransport = http_transport,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        seconds: float = COLLATERAL_SECONDS,
    ) -> None:
        self._folder = folder
        self._now = now
        self._transport = transport
        self._sleep = sleep
        self._seconds = seconds
        self._current = NO_COLLATERAL
        self._failures = 0  # in a row
        self._asked_to_wait = 0.0  # seconds, by the vendor that failed last

    @property
    def current(self) -> Collateral:
        """What to staple now; empty before the first look that succeeded, and for a machine that needs none."""
        return self._current

    async def refresh(self, document: bytes) -> None:
        """Ask the vendors for what the appraisal of ``document`` needs; of its keys and nonce they learn nothing.

        Never fails: what cannot be had is one line on standard error, and what there was before stays.
        """
        try:
            async with asyncio.timeout(self._seconds), self._transport() as transport:
                self._current = await gather(self._cached(transport), EvidenceDocument.parse(document))
            self._failures, self._asked_to_wait = 0, 0.0
        except Exception as error:  # noqa: BLE001 - what strangers answered was read in there: none of it may end the enclave
            self._failures += 1
            self._asked_to_wait = float(error.retry_after or 0) if isinstance(error, RateLimited) else 0.0
            _say(error)

    async def keep_fresh(self, document: bytes) -> None:
        """Look again every few hours, and sooner after a failure, until cancelled. The first look is :meth:`refresh`'s.

        ``document`` is any evidence of this machine: what vendors say depends on its hardware alone.
        """
        while True:
            spread = random.uniform(1.0, 1.25)  # noqa: S311  # enclaves that start together ask apart; no secret
            await self._sleep(pause_after(self._failures, self._asked_to_wait) * spread)
            await self.refresh(document)

    def _cached(self, transport: Transport) -> Transport:
        return transport if self._folder is None else CachedTransport(transport, self._folder, self._now)


def pause_after(failures: int, asked_to_wait: float = 0.0) -> float:
    """Seconds until the next look, after so many failures in a row; not sooner than a vendor asked for."""
    longest = COLLATERAL_REFRESH / timedelta(seconds=1)
    if not failures:
        return longest
    doubled = COLLATERAL_FIRST_RETRY * 2.0 ** min(failures - 1, 32)
    return max(min(doubled, longest), asked_to_wait)


def _say(error: Exception) -> None:
    """Only the type of an error: addresses of vendors' services name chips."""
    print(f"subrosa enclave: vendors' documents could not be fetched ({type(error).__name__})", file=sys.stderr)  # noqa: T201
