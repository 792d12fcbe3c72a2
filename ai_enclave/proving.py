"""Evidence for whoever asks, and which documents a later request may rely on.

Hardware makes one report at a time, in seconds at worst, so that who asks stands in a line of their own (``ai_enclave.desk``), each
user in turn. A request names the document that its sender has appraised, so that the receipt of the answer can name it too;
documents from before this start are nobody's.
"""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from ai_enclave.desk import Counter, Desk, in_thread
from ai_enclave.limits import MAX_ACCOUNTS, MAX_ISSUED
from attestation.receipt import measurement_of
from messaging.wire.assistant import Evidence
from messaging.wire.identifiers import ServiceId


class NoEvidence(Exception):
    """The hardware gave no report."""


class Prover:
    """Proves where this enclave runs.

    Args:
        attest: turns a nonce into an evidence document; may block.
        collateral: what the vendors say about this machine, encoded; empty if nothing was fetched.
        counter: where requesters wait for the hardware; never the engine's.
    """

    def __init__(
        self, attest: Callable[[bytes], bytes], collateral: Callable[[], bytes], counter: Counter | None = None
    ) -> None:
        self._attest = attest
        self._collateral = collateral
        self._counter = Counter(Desk()) if counter is None else counter
        self._issued: OrderedDict[ServiceId, OrderedDict[bytes, None]] = OrderedDict()
        self._measurement = b""

    @property
    def measurement(self) -> bytes:
        """48 bytes, as the documents say it; empty before the first one."""
        return self._measurement

    async def prove(self, requester: ServiceId, request_id: bytes, nonce: bytes, *, deadline: float) -> Evidence:
        """Evidence that answers ``nonce``, at most ``deadline`` seconds from now.

        Raises:
            Refused: the line is too long, or the request was cancelled or too late.
            NoEvidence: the hardware failed.
        """
        work = partial(self._prove, requester, nonce)
        return await self._counter.serve(requester, request_id, work, deadline=deadline)

    def has_issued(self, requester: ServiceId, digest: bytes | None) -> bool:
        """Whether ``requester`` got a document of this digest (SHA-256) since the start."""
        return digest in self._issued.get(requester, ())

    def forget(self, requester: ServiceId) -> None:
        """What was issued to this account is nobody's any more."""
        self._issued.pop(requester, None)

    def cancel(self, requester: ServiceId, request_id: bytes) -> None:
        """``requester`` waits no longer."""
        self._counter.cancel(requester, request_id)

    def drain(self) -> None:
        """Accept nothing more; what was accepted is finished."""
        self._counter.drain()

    async def drained(self) -> None:
        """Wait until it is."""
        await self._counter.drained()

    async def _prove(self, requester: ServiceId, nonce: bytes) -> Evidence:
        try:
            document = await in_thread(partial(self._attest, nonce))
            evidence = Evidence(document, self._collateral())
            self._remember(requester, document)
        except Exception as error:  # noqa: BLE001 -- a driver may raise anything; the assistant goes on
            print(f"subrosa enclave: no evidence ({type(error).__name__})", file=sys.stderr)  # noqa: T201
            raise NoEvidence from None
        return evidence

    def _remember(self, requester: ServiceId, document: bytes) -> None:
        self._measurement = self._measurement or measurement_of(document)
        issued = self._issued.setdefault(requester, OrderedDict())
        self._issued.move_to_end(requester)
        issued[hashlib.sha256(document).digest()] = None
        if len(issued) > MAX_ISSUED:
            issued.popitem(last=False)
        if len(self._issued) > MAX_ACCOUNTS:
            self._issued.popitem(last=False)
