"""The attester (RFC 9334): answers a verifier's nonce with evidence of this machine, its devices and its keys.

The order is that of ``attestation.binding``: devices answer nonces of their own, the processor signs over the answers,
and all of it becomes one document. Where reports come from belongs to the collectors.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from attestation.binding import device_nonce, report_data
from attestation.collecting.errors import AttesterBusy, CollectionTimedOut
from attestation.document import CpuEvidence, DeviceEvidence, EvidenceDocument, KeySection

# Seconds for one attestation. Linux itself waits up to 60 for AMD's firmware when the host throttles requests, and up
# to 30 for a TDX quote.
PATIENCE = 120.0


class CpuCollector(Protocol):
    """Where the processor's report comes from."""

    def collect(self, report_data: bytes) -> CpuEvidence:
        """A new report over ``report_data``, 64 bytes.

        Raises:
            CollectionError: there is none.
        """
        ...


class DeviceCollector(Protocol):
    """Where the reports of GPUs and switches come from."""

    def collect(self, nonces: Callable[[int], bytes]) -> tuple[DeviceEvidence, ...]:
        """New reports of all devices; the one at index ``i`` answers ``nonces(i)``, 32 bytes.

        Raises:
            CollectionError: a device has none. Fewer devices are no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoDevices:
    """For a machine whose model runs on the processor alone."""

    def collect(self, nonces: Callable[[int], bytes]) -> tuple[DeviceEvidence, ...]:
        """Nothing."""
        del nonces
        return ()


@dataclass(frozen=True, slots=True)
class Attester:
    """Answers nonces, one after the other; blocks, so that an event loop calls it in a thread.

    One attestation at a time: AMD's firmware and a GPU each have one mailbox for all, a TDX guest has one quote in
    flight, and NVIDIA's driver takes a GPU out of service when an attestation fails. Other programs may still ask; the
    collectors bear that.
    """

    cpu: CpuCollector
    devices: DeviceCollector = field(default_factory=NoDevices)
    patience: float = PATIENCE
    _hardware: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def attest(self, nonce: bytes, keys: KeySection) -> bytes:
        """An evidence document for ``nonce``, 32 bytes, and ``keys``.

        Waits at most ``patience`` seconds for its turn, and as long again for the hardware.

        Raises:
            CollectionError: there is no evidence; the subclass says why, and what to do.
            ValueError: the nonce is not 32 bytes.
        """
        if not self._hardware.acquire(timeout=self.patience):
            raise AttesterBusy("another attestation did not end in time")
        # A thread of its own, because no call into a driver has a deadline. It holds the lock until the driver lets go.
        outcome: Future[bytes] = Future()
        worker = threading.Thread(target=self._settle, args=(outcome, nonce, keys), name="attestation", daemon=True)
        try:
            worker.start()
        except RuntimeError:
            self._hardware.release()
            raise
        if not wait([outcome], timeout=self.patience).done:
            raise CollectionTimedOut("the hardware did not answer in time")
        return outcome.result()

    def _settle(self, outcome: Future[bytes], nonce: bytes, keys: KeySection) -> None:
        try:
            document = self._document(nonce, keys)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the outcome gets it
            self._hardware.release()
            outcome.set_exception(error)
        else:
            self._hardware.release()
            outcome.set_result(document)

    def _document(self, nonce: bytes, keys: KeySection) -> bytes:
        devices = self.devices.collect(partial(device_nonce, nonce, keys))
        cpu = self.cpu.collect(report_data(nonce, keys, devices))
        return EvidenceDocument(keys, cpu, devices).encode()
