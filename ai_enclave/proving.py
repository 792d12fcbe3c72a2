"""Evidence for whoever asks, and which documents a later request may rely on.

Hardware makes one report at a time, in seconds at worst: one for each who asks, and who comes when many wait is told. A request
names the document that its sender has appraised, so that the receipt of the answer can name it too; documents from before this
start are nobody's.
"""

import asyncio
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable

from ai_enclave.limits import MAX_ACCOUNTS, MAX_ISSUED, MAX_PROVING
from attestation.receipt import measurement_of
from messaging.wire.assistant import Evidence, Refusal, RefusalCode
from messaging.wire.identifiers import ServiceId


class Prover:
    """Proves where this enclave runs.

    Args:
        attest: turns a nonce into an evidence document; may block.
        collateral: what the vendors say about this machine, encoded; empty if nothing was fetched.
    """

    def __init__(self, attest: Callable[[bytes], bytes], collateral: Callable[[], bytes]) -> None:
        self._attest = attest
        self._collateral = collateral
        self._proving: set[ServiceId] = set()
        self._one_at_a_time = asyncio.Lock()
        self._issued: OrderedDict[ServiceId, OrderedDict[bytes, None]] = OrderedDict()
        self._measurement = b""

    @property
    def measurement(self) -> bytes:
        """48 bytes, as the documents say it; empty before the first one."""
        return self._measurement

    async def prove(self, requester: ServiceId, nonce: bytes) -> Evidence | Refusal:
        """Evidence that answers ``nonce``, or why there is none."""
        if len(self._proving) >= MAX_PROVING or requester in self._proving:
            return Refusal(RefusalCode.BUSY)
        self._proving.add(requester)
        try:
            async with self._one_at_a_time:  # here, and not in threads, which the engine needs
                document = await asyncio.to_thread(self._attest, nonce)
            self._remember(requester, document)
            return Evidence(document, self._collateral())
        except Exception as error:  # noqa: BLE001 -- a driver may raise anything; the assistant goes on
            print(f"subrosa enclave: no evidence ({type(error).__name__})", file=sys.stderr)  # noqa: T201
            return Refusal(RefusalCode.NO_EVIDENCE)
        finally:
            self._proving.discard(requester)

    def has_issued(self, requester: ServiceId, digest: bytes | None) -> bool:
        """Whether ``requester`` got a document of this digest (SHA-256) since the start."""
        return digest in self._issued.get(requester, ())

    def _remember(self, requester: ServiceId, document: bytes) -> None:
        self._measurement = self._measurement or measurement_of(document)
        issued = self._issued.setdefault(requester, OrderedDict())
        self._issued.move_to_end(requester)
        issued[hashlib.sha256(document).digest()] = None
        if len(issued) > MAX_ISSUED:
            issued.popitem(last=False)
        if len(self._issued) > MAX_ACCOUNTS:
            self._issued.popitem(last=False)
