import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from attestation.binding import device_nonce, verify_binding
from attestation.collecting import Attester, NoDevices, TsmCollector
from attestation.collecting.errors import AttesterBusy, CollectionTimedOut, NoGpu, NoTee
from attestation.document import CpuEvidence, CpuType, DeviceEvidence, DeviceState, DeviceType, EvidenceDocument
from tests.attestation.collecting.kernel import Kernel
from tests.attestation.collecting.samples import KEYS
from tests.attestation.vectors import read as vector

NONCE = bytes(range(32))
SAFE = DeviceState(confidential=True, developer_tools=False, production=True)


@dataclass
class Cpu:
    """Puts the report data into the place of a report; notes what was asked, and when."""

    asked: list[str] = field(default_factory=list)

    def collect(self, report_data: bytes) -> CpuEvidence:
        self.asked.append("processor")
        return CpuEvidence(CpuType.SIMULATED, report_data)


@dataclass
class Gpus:
    """Answers with the nonces themselves."""

    count: int
    asked: list[str]

    def collect(self, nonces: Callable[[int], bytes]) -> tuple[DeviceEvidence, ...]:
        self.asked.append("devices")
        return tuple(DeviceEvidence(DeviceType.GPU, nonces(index), (), SAFE) for index in range(self.count))


def test_a_machine_without_devices_attests_nonce_and_keys() -> None:
    document = EvidenceDocument.parse(Attester(Cpu()).attest(NONCE, KEYS))
    assert document.keys == KEYS
    assert document.devices == ()
    verify_binding(document.cpu.report, nonce=NONCE, keys=KEYS)


def test_devices_answer_before_the_processor_signs() -> None:
    cpu = Cpu()
    Attester(cpu, Gpus(2, cpu.asked)).attest(NONCE, KEYS)
    assert cpu.asked == ["devices", "processor"]


def test_each_device_answers_its_own_nonce_and_the_processor_signs_over_all() -> None:
    document = EvidenceDocument.parse(Attester(Cpu(), Gpus(3, [])).attest(NONCE, KEYS))
    assert [device.report for device in document.devices] == [device_nonce(NONCE, KEYS, index) for index in range(3)]
    verify_binding(document.cpu.report, nonce=NONCE, keys=KEYS, devices=document.devices)


def test_a_recorded_machine_gives_a_document_that_verifiers_can_read() -> None:
    recorded = vector("amd_sev_snp/oak_genoa_v5/snp_report.bin")
    kernel = Kernel(lambda report_data: (recorded[:0x50] + report_data + recorded[0x90:], b""))
    document = EvidenceDocument.parse(Attester(TsmCollector(create=kernel.create)).attest(NONCE, KEYS))
    assert document.cpu.type is CpuType.SEV_SNP
    verify_binding(document.cpu.report[0x50:0x90], nonce=NONCE, keys=KEYS)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_size_is_a_mistake_of_the_caller(size: int) -> None:
    attester = Attester(Cpu())
    with pytest.raises(ValueError, match="32"):
        attester.attest(bytes(size), KEYS)
    attester.attest(NONCE, KEYS)


def test_what_a_collector_cannot_do_is_told_and_ends_nothing() -> None:
    class Absent:
        there = False

        def collect(self, nonces: Callable[[int], bytes]) -> tuple[DeviceEvidence, ...]:
            if not self.there:
                raise NoGpu("NVML sees no GPU")
            return ()

    class NoCpu:
        def collect(self, report_data: bytes) -> CpuEvidence:
            raise NoTee("no")

    with pytest.raises(NoTee):
        Attester(NoCpu()).attest(NONCE, KEYS)
    devices = Absent()
    attester = Attester(Cpu(), devices)
    with pytest.raises(NoGpu):
        attester.attest(NONCE, KEYS)
    devices.there = True
    attester.attest(NONCE, KEYS)


def test_the_hardware_answers_one_at_a_time() -> None:
    class Mailbox:
        inside = 0
        most = 0

        def collect(self, report_data: bytes) -> CpuEvidence:
            self.inside += 1
            self.most = max(self.most, self.inside)
            threading.Event().wait(0.005)
            self.inside -= 1
            return CpuEvidence(CpuType.SIMULATED, report_data)

    mailbox = Mailbox()
    attester = Attester(mailbox)
    nonces = [bytes([number]) * 32 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda nonce: attester.attest(nonce, KEYS), nonces))
    assert mailbox.most == 1
    for nonce, document in zip(nonces, documents, strict=True):
        verify_binding(EvidenceDocument.parse(document).cpu.report, nonce=nonce, keys=KEYS)


def test_hardware_that_hangs_holds_nobody_for_ever() -> None:
    class Stuck:
        released = threading.Event()

        def collect(self, report_data: bytes) -> CpuEvidence:
            self.released.wait(30)
            return CpuEvidence(CpuType.SIMULATED, report_data)

    stuck = Stuck()
    attester = Attester(stuck, NoDevices(), patience=0.05)
    with pytest.raises(CollectionTimedOut):
        attester.attest(NONCE, KEYS)
    with pytest.raises(AttesterBusy):
        attester.attest(NONCE, KEYS)
    stuck.released.set()
    Attester(stuck).attest(NONCE, KEYS)
