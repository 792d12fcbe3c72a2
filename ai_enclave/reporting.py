"""What the enclave tells its relay for the operator to see: evidence over the relay's nonce, and its load in steps.

The hardware is asked in the line in which users ask it, as one more of them. Nothing here may keep the enclave from serving: what
goes wrong is one line on standard error, and the next report is minutes away.
"""

import asyncio
import secrets
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ai_enclave.desk import Counter, Refused
from ai_enclave.hardening import describe
from ai_enclave.limits import LAST_REPORT_SECONDS, REPORT_EVERY, REPORT_SECONDS
from ai_enclave.memory import Memory
from ai_enclave.proving import NoEvidence, Prover
from attestation import Collateral
from attestation.bundle import Bundle
from attestation.receipt import measurement_of
from messaging.wire.assistants import (
    CONVERSATION_STEPS,
    MEMORY_STEPS,
    REQUEST_STEPS,
    AssistantLoad,
    AssistantReport,
    ReportedEvidence,
    rounded_up,
)
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_REPORTED_BUNDLE, REQUEST_ID

_MIB = 1024 * 1024


class Reports(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    @property
    def service_id(self) -> ServiceId:
        """The enclave's account."""

    async def report_nonce(self, name: str) -> bytes:
        """What the next report has to answer."""

    async def report(self, name: str, report: AssistantReport) -> None:
        """Tell it."""


def load_of(counter: Counter, memory: Memory) -> AssistantLoad:
    """How much there is to do, each number rounded up to a step: nobody learns an exact one, and none of a user."""
    load = counter.load
    return AssistantLoad(
        waiting=rounded_up(load.waiting, REQUEST_STEPS),
        serving=rounded_up(load.serving, REQUEST_STEPS),
        conversations=rounded_up(memory.conversations_held, CONVERSATION_STEPS),
        memory_mib=rounded_up(memory.bytes_held / _MIB, MEMORY_STEPS),
    )


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports of one enclave, whose assistant has ``name`` and runs ``release``.

    ``prover`` is asked for evidence; ``load`` says how much there is to do; ``collateral`` what vendors say of this machine.
    """

    name: str
    release: str
    device: Reports
    prover: Prover
    load: Callable[[], AssistantLoad]
    collateral: Callable[[], Collateral]

    async def run(self) -> None:
        """Report now, and every few minutes until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(REPORT_EVERY)

    async def report(self, *, evidence: bool = True) -> None:
        """Report once, with evidence if there is any to be had. Never fails, and takes no longer than its time."""
        try:
            async with asyncio.timeout(REPORT_SECONDS if evidence else LAST_REPORT_SECONDS):
                proved = await self._evidence() if evidence else None
                await self.device.report(self.name, AssistantReport(load=self.load(), evidence=proved))
        except Exception as error:  # noqa: BLE001 - a report is for an operator to look at: serving goes on without it
            print(f"subrosa enclave: a report was not sent ({describe(error)})", file=sys.stderr)  # noqa: T201

    async def _evidence(self) -> ReportedEvidence | None:
        nonce = await self.device.report_nonce(self.name)
        request = secrets.token_bytes(REQUEST_ID)
        try:
            proof = await self.prover.prove(self.device.service_id, request, nonce, deadline=REPORT_SECONDS)
        except (Refused, NoEvidence):
            return None  # users ask for more than the hardware can give, or it failed, which has been said
        now = datetime.now(UTC).replace(microsecond=0)
        bundle = zlib.compress(Bundle(nonce, now, proof.document, self.collateral()).encode(), 9)
        if len(bundle) > MAX_REPORTED_BUNDLE:
            return None  # of a machine with so many devices only the load is reported
        return ReportedEvidence(
            nonce=nonce, bundle=bundle, release=self.release, measurement=measurement_of(proof.document)
        )
