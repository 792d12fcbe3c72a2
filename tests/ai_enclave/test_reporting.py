"""What an enclave reports: evidence that answers the relay, its load in steps, and never at the cost of serving."""

import asyncio
import zlib
from dataclasses import dataclass, field

import pytest

from ai_enclave import reporting
from ai_enclave.desk import Arrived, Counter, Desk, Ticket
from ai_enclave.memory import Memory
from ai_enclave.proving import Prover
from ai_enclave.reporting import Reporter, load_of
from attestation import NO_COLLATERAL, KeySection, SimulatedTee, UnsafeAcceptSimulated, assess
from attestation.appraisal import Policy, Release
from attestation.bundle import Bundle
from attestation.document import CpuType
from messaging.client import RelayUnreachable
from messaging.wire.assistants import AssistantLoad, AssistantReport
from messaging.wire.identifiers import ServiceId
from tests.ai_enclave.asking import RELEASE
from tests.attestation import machines

IDLE = AssistantLoad(waiting=0, serving=0, conversations=0, memory_mib=0)
NONCE = bytes(range(32))
ME = ServiceId.parse("9d0652a3-dcc3-4d11-975f-74d61598733f")
POLICY = Policy(
    releases=(Release(name=RELEASE, type=CpuType.SIMULATED, measurement=machines.SIMULATED_MEASUREMENT),),
    unsafe=frozenset({UnsafeAcceptSimulated}),
)


@dataclass
class Relay:
    """Takes reports, or fails."""

    service_id: ServiceId = ME
    fault: Exception | None = None
    silent: bool = False
    got: list[AssistantReport] = field(default_factory=list)

    async def report_nonce(self, name: str) -> bytes:
        assert name == "scribe"
        if self.fault is not None:
            raise self.fault
        if self.silent:
            await asyncio.Event().wait()
        return NONCE

    async def report(self, name: str, report: AssistantReport) -> None:
        assert name == "scribe"
        self.got.append(AssistantReport.from_json(report.to_json()))


def simulated(nonce: bytes) -> bytes:
    keys = KeySection(b"\x05" + bytes(32), bytes(32), RELEASE)
    return SimulatedTee(machines.SIMULATED_MEASUREMENT).attest(nonce, keys=keys)


def a_prover() -> Prover:
    return Prover(simulated, lambda: b"")


def a_reporter(relay: Relay, prover: Prover | None = None) -> Reporter:
    return Reporter("scribe", RELEASE, relay, prover or a_prover(), lambda: IDLE, lambda: NO_COLLATERAL)


async def test_its_evidence_answers_the_relays_nonce() -> None:
    relay = Relay()
    await a_reporter(relay).report()
    proof = relay.got[0].evidence
    assert proof is not None
    assert (proof.nonce, proof.release, proof.measurement) == (NONCE, RELEASE, machines.SIMULATED_MEASUREMENT)
    bundle = Bundle.parse(zlib.decompress(proof.bundle))
    assert bundle.nonce == NONCE
    judged = assess(bundle.evidence, nonce=NONCE, policy=POLICY, now=bundle.time, collateral=bundle.collateral)
    assert judged.claims().release == RELEASE


async def test_one_that_drains_reports_its_load_alone() -> None:
    relay = Relay()
    await a_reporter(relay).report(evidence=False)
    assert relay.got == [AssistantReport(load=IDLE)]


async def test_without_evidence_to_be_had_the_load_is_reported_all_the_same() -> None:
    drained, failing, relay = a_prover(), Prover(lambda _: b"no document", lambda: b""), Relay()
    drained.drain()
    for prover in (drained, failing):
        await a_reporter(relay, prover).report()
    assert relay.got == [AssistantReport(load=IDLE)] * 2


async def test_a_bundle_beyond_the_limit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Relay()
    monkeypatch.setattr(reporting, "MAX_REPORTED_BUNDLE", 100)
    await a_reporter(relay).report()
    assert relay.got == [AssistantReport(load=IDLE)]


@pytest.mark.parametrize("fault", [RelayUnreachable(), ValueError("secret words")])
async def test_a_failure_is_said_without_its_words_and_ends_nothing(
    fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    await a_reporter(Relay(fault=fault)).report()
    said = capsys.readouterr().err
    assert said.startswith("subrosa enclave: a report was not sent (")
    assert "secret" not in said


async def test_a_relay_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 0.01)
    await a_reporter(Relay(silent=True)).report()
    assert "TimeoutError" in capsys.readouterr().err


async def test_it_reports_at_once_and_then_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "REPORT_EVERY", 0.0)
    relay = Relay()
    running = asyncio.create_task(a_reporter(relay).run())
    async with asyncio.timeout(10):
        while len(relay.got) < 3:
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_its_load_is_in_steps() -> None:
    desk = Desk()
    for number in range(4):
        desk.receive(Arrived(Ticket(f"user {number}", "request", 60.0)), 0.0)
    counter = Counter(desk, lambda: 0.0)
    assert load_of(counter, Memory()) == AssistantLoad(waiting=5, serving=1, conversations=0, memory_mib=0)
