"""Anyone gets evidence for their nonce, in turn; what was issued is remembered, within bounds."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest

from ai_enclave import proving as proving_module
from ai_enclave.desk import Reason, Refused
from ai_enclave.limits import MAX_ISSUED, MAX_PENDING, REQUESTS_BURST
from ai_enclave.proving import NoEvidence, Prover
from attestation import KeySection, SimulatedTee
from attestation.collecting.errors import AttesterBusy
from messaging.wire.assistant import Evidence
from messaging.wire.identifiers import ServiceId

MEASUREMENT = bytes(range(48))
KEYS = KeySection(b"\x05" + bytes(32), bytes(32), "release 1")
ATTEST = partial(SimulatedTee(MEASUREMENT).attest, keys=KEYS)
NONCE = bytes(32)


def somebody(number: int) -> ServiceId:
    return ServiceId(UUID(int=number + 1))


def nonce_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


ANN, BOB = somebody(0), somebody(1)


def a_prover(attest: Callable[[bytes], bytes] = ATTEST, collateral: Callable[[], bytes] = bytes) -> Prover:
    return Prover(attest, collateral)


async def proved(
    prover: Prover, requester: ServiceId = ANN, nonce: bytes = NONCE, deadline: float = 10, request_id: bytes = b"1"
) -> Evidence:
    return await prover.prove(requester, request_id, nonce, deadline=deadline)


class Hardware:
    """Reports as slowly as it is told to, and notes how many were made at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[bytes] = []
        self.busy = self.most_busy = 0

    def attest(self, nonce: bytes) -> bytes:
        self.begun.append(nonce)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        self.go.wait(10)
        self.busy -= 1
        return ATTEST(nonce)

    async def has_begun(self, number: int) -> None:
        while len(self.begun) < number:
            await asyncio.sleep(0.001)


async def refusal(task: asyncio.Future[Evidence]) -> Reason:
    with pytest.raises(Refused) as refused:
        await task
    return refused.value.code


async def test_evidence_answers_the_nonce_and_has_the_collateral_of_the_moment_stapled() -> None:
    collateral = b"first"
    prover = a_prover(collateral=lambda: collateral)
    evidence = await proved(prover)
    assert evidence == Evidence(ATTEST(NONCE), b"first")
    collateral = b"second"
    assert (await proved(prover)).collateral == b"second"


async def test_the_measurement_is_what_the_documents_say() -> None:
    prover = a_prover()
    assert prover.measurement == b""
    await proved(prover)
    assert prover.measurement == MEASUREMENT


async def test_a_document_is_known_to_have_been_issued_to_who_asked_and_to_nobody_else() -> None:
    prover = a_prover()
    digest = hashlib.sha256((await proved(prover)).document).digest()
    assert prover.has_issued(ANN, digest)
    assert not prover.has_issued(BOB, digest)
    assert not prover.has_issued(ANN, bytes(32))
    assert not prover.has_issued(ANN, None)
    prover.forget(ANN)
    prover.forget(BOB)
    assert not prover.has_issued(ANN, digest)


async def test_the_last_documents_of_an_account_are_remembered() -> None:
    prover = a_prover()
    digests = [
        hashlib.sha256((await proved(prover, nonce=nonce_of(number))).document).digest()
        for number in range(MAX_ISSUED + 1)
    ]
    assert [prover.has_issued(ANN, digest) for digest in digests] == [False] + [True] * MAX_ISSUED


async def test_the_accounts_that_asked_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving_module, "MAX_ACCOUNTS", 3)
    prover = a_prover()
    digest = hashlib.sha256(ATTEST(NONCE)).digest()
    for number in (0, 1, 2, 0, 3):
        await proved(prover, somebody(number))
    assert [prover.has_issued(somebody(number), digest) for number in range(4)] == [True, False, True, True]


async def test_one_report_is_made_at_a_time_and_each_requester_has_a_turn() -> None:
    hardware = Hardware()
    prover = a_prover(hardware.attest)
    order = [(0, 10), (0, 11), (0, 12), (1, 20), (2, 30)]
    asking = [asyncio.ensure_future(proved(prover, somebody(who), nonce_of(nonce))) for who, nonce in order]
    await hardware.has_begun(1)
    hardware.go.set()
    answers = await asyncio.gather(*asking)
    assert [answer.document for answer in answers] == [ATTEST(nonce_of(nonce)) for _, nonce in order]
    assert [int.from_bytes(nonce, "big") for nonce in hardware.begun] == [10, 20, 30, 11, 12]
    assert hardware.most_busy == 1


async def test_only_so_many_wait_and_one_requester_cannot_take_all_places() -> None:
    hardware = Hardware()
    prover = a_prover(hardware.attest)
    asking = [asyncio.ensure_future(proved(prover, ANN, deadline=1000)) for _ in range(4)]
    assert await refusal(asking.pop()) == Reason.QUOTA
    asking += [
        asyncio.ensure_future(proved(prover, somebody(number), deadline=1000)) for number in range(1, MAX_PENDING - 1)
    ]
    await hardware.has_begun(1)
    assert await refusal(asyncio.ensure_future(proved(prover, somebody(1000), deadline=1000))) == Reason.BUSY
    hardware.go.set()
    assert len(await asyncio.gather(*asking)) == MAX_PENDING + 1


async def test_a_requester_who_asks_without_end_is_told_to_wait() -> None:
    prover = a_prover()
    for number in range(REQUESTS_BURST):
        await proved(prover, nonce=nonce_of(number))
    assert await refusal(asyncio.ensure_future(proved(prover))) == Reason.QUOTA
    assert (await proved(prover, BOB)).document == ATTEST(NONCE)


async def test_hardware_that_hangs_is_told_by_the_deadline_and_not_asked_again_before_it_is_done() -> None:
    hardware = Hardware()
    prover = a_prover(hardware.attest)
    first = asyncio.ensure_future(proved(prover, nonce=nonce_of(1), deadline=0.02))
    await hardware.has_begun(1)
    assert await refusal(first) == Reason.TOO_LATE
    second = asyncio.ensure_future(proved(prover, BOB, nonce=nonce_of(2)))
    await asyncio.sleep(0.02)
    assert hardware.begun == [nonce_of(1)]
    hardware.go.set()
    assert (await second).document == ATTEST(nonce_of(2))
    assert hardware.most_busy == 1


async def test_who_waits_no_longer_says_so() -> None:
    hardware = Hardware()
    prover = a_prover(hardware.attest)
    first = asyncio.ensure_future(proved(prover))
    await hardware.has_begun(1)
    waiting = asyncio.ensure_future(proved(prover, BOB, nonce_of(2), request_id=b"2"))
    await asyncio.sleep(0)
    prover.cancel(ANN, b"2")  # not hers
    prover.cancel(BOB, b"2")
    assert await refusal(waiting) == Reason.CANCELLED
    hardware.go.set()
    await first
    assert hardware.begun == [NONCE]


async def test_who_drains_finishes_what_was_accepted_and_takes_no_more() -> None:
    hardware = Hardware()
    prover = a_prover(hardware.attest)
    first = asyncio.ensure_future(proved(prover))
    await hardware.has_begun(1)
    prover.drain()
    assert await refusal(asyncio.ensure_future(proved(prover, BOB))) == Reason.DRAINING
    drained = asyncio.ensure_future(prover.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    hardware.go.set()
    await first
    await asyncio.wait_for(drained, 5)


class Broken(Exception):
    """A driver's own."""


@pytest.mark.parametrize("error", [AttesterBusy("canary"), OSError("canary"), Broken("canary"), ValueError("canary")])
async def test_hardware_that_fails_is_one_line_without_its_words_and_not_the_end(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = True

    def attest(nonce: bytes) -> bytes:
        if fails:
            raise error
        return ATTEST(nonce)

    prover = a_prover(attest)
    with pytest.raises(NoEvidence) as raised:
        await proved(prover)
    assert str(raised.value) == ""
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert capfd.readouterr() == ("", f"subrosa enclave: no evidence ({type(error).__name__})\n")
    fails = False
    assert (await proved(prover)).document == ATTEST(NONCE)


async def test_what_is_no_document_is_no_evidence() -> None:
    prover = a_prover(lambda _nonce: b"nonsense")
    with pytest.raises(NoEvidence):
        await proved(prover)
    assert not prover.has_issued(ANN, hashlib.sha256(b"nonsense").digest())
