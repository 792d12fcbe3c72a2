import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509 import load_der_x509_certificate
from hypothesis import given
from hypothesis.strategies import binary, integers

from attestation.collecting.errors import NoGpu, NvmlFailed, NvmlMissing, UnexpectedDeviceAnswer
from attestation.collecting.nvml import (
    MAX_CHAIN,
    MAX_REPORT,
    ComputeSettings,
    Nvml,
    NvmlCollector,
    NvmlPackage,
    device_state,
    gpu_evidence,
    open_nvml,
)
from attestation.document import DeviceEvidence, DeviceState, DeviceType
from attestation.limits import MAX_DEVICES
from tests.attestation.vectors import read as vector

NONCE = bytes.fromhex("e97b23a1718095a0e9e35edca810768c70a6a5a389b705e753b197912bc11576")
SAFE = DeviceState(confidential=True, developer_tools=False, production=True)
CONFIDENTIAL = ComputeSettings(environment=2, feature=1, developer_tools=0, multi_gpu=0)
PROTECTED_PCIE = ComputeSettings(environment=2, feature=0, developer_tools=0, multi_gpu=1)


@dataclass
class Replay:
    """NVML that gives recorded bytes, whatever the nonce."""

    reports: list[bytes]
    chains: list[bytes]
    mode: ComputeSettings = CONFIDENTIAL
    asked: list[int] = field(default_factory=list)
    open: bool = False

    @contextmanager
    def opened(self) -> Iterator[Nvml]:
        self.open = True
        try:
            yield self
        finally:
            self.open = False

    def count(self) -> int:
        return len(self.reports)

    def settings(self) -> ComputeSettings:
        return self.mode

    def report(self, index: int, nonce: bytes) -> bytes:
        assert self.open
        assert len(nonce) == 32
        self.asked.append(index)
        return self.reports[index]

    def chain(self, index: int) -> bytes:
        assert self.open
        return self.chains[index]


def hopper() -> Replay:
    folder = "nvidia_gpu/hopper_evidence"
    return Replay([vector(f"{folder}/report.bin")], [vector(f"{folder}/chain.pem")])


def four_hoppers() -> Replay:
    folder = "nvidia_gpu/multi_gpu_hopper"
    return Replay(
        [vector(f"{folder}/report_{index}.bin") for index in range(4)],
        [vector(f"{folder}/chain_{index}.pem") for index in range(4)],
        PROTECTED_PCIE,
    )


def verify_signature(device: DeviceEvidence) -> None:
    """The signature of a report is over the request and the response before it, by the key of the first certificate."""
    key = load_der_x509_certificate(device.certificates[0]).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    signed, signature = device.report[:-96], device.report[-96:]
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA384()))


# --- recorded machines -----------------------------------------------------------------------------------------------


def test_a_recorded_gpu_gives_request_and_response_under_the_first_certificate() -> None:
    (device,) = NvmlCollector(hopper().opened).collect(lambda _: NONCE)
    assert device.type is DeviceType.GPU
    assert device.report == vector("nvidia_gpu/hopper_evidence/report.bin")
    assert device.report[4:36] == NONCE
    assert len(device.certificates) == 5
    assert device.state == SAFE
    verify_signature(device)


def test_recorded_gpus_stand_in_the_order_of_their_nonces() -> None:
    replay, indices = four_hoppers(), []

    def nonces(index: int) -> bytes:
        indices.append(index)
        return NONCE

    devices = NvmlCollector(replay.opened).collect(nonces)
    assert indices == replay.asked == [0, 1, 2, 3]
    assert [device.report for device in devices] == replay.reports
    assert len({device.certificates[0] for device in devices}) == 4
    assert all(device.state == SAFE for device in devices)
    for device in devices:
        verify_signature(device)
    assert not replay.open


def test_an_answer_to_another_challenge_is_refused() -> None:
    replay = hopper()
    with pytest.raises(UnexpectedDeviceAnswer, match="another challenge"):
        NvmlCollector(replay.opened).collect(lambda _: bytes(32))
    assert not replay.open


def test_one_gpu_without_an_answer_leaves_no_evidence() -> None:
    replay = four_hoppers()
    replay.reports[3] = b""
    with pytest.raises(UnexpectedDeviceAnswer):
        NvmlCollector(replay.opened).collect(lambda _: NONCE)


def test_no_gpu_is_no_evidence() -> None:
    with pytest.raises(NoGpu):
        NvmlCollector(Replay([], []).opened).collect(lambda _: NONCE)


def test_more_gpus_than_evidence_holds_are_not_asked() -> None:
    replay = Replay([b""] * (MAX_DEVICES + 1), [b""] * (MAX_DEVICES + 1))
    with pytest.raises(UnexpectedDeviceAnswer):
        NvmlCollector(replay.opened).collect(lambda _: NONCE)
    assert replay.asked == []


# --- what the bytes have to be ---------------------------------------------------------------------------------------


def test_a_response_without_its_request_is_refused() -> None:
    (report,), (chain,) = hopper().reports, hopper().chains
    with pytest.raises(UnexpectedDeviceAnswer, match="SPDM"):
        gpu_evidence(report[37:], chain, NONCE, SAFE)


@pytest.mark.parametrize("chain", [b"", b"no chain", bytes(MAX_CHAIN + 1)])
def test_a_chain_that_is_none_is_refused(chain: bytes) -> None:
    report = bytes.fromhex("11e001ff") + NONCE + b"\x00" + bytes.fromhex("1160")
    with pytest.raises(UnexpectedDeviceAnswer):
        gpu_evidence(report, chain, NONCE, SAFE)


def test_a_report_that_is_too_large_is_refused() -> None:
    report = bytes.fromhex("11e001ff") + NONCE + b"\x00" + bytes.fromhex("1160")
    with pytest.raises(UnexpectedDeviceAnswer, match="too large"):
        gpu_evidence(report + bytes(MAX_REPORT), b"", NONCE, SAFE)


@given(binary(max_size=100), binary(max_size=100))
def test_any_bytes_are_refused_with_the_one_error(report: bytes, chain: bytes) -> None:
    with pytest.raises(UnexpectedDeviceAnswer):
        gpu_evidence(report, chain, NONCE, SAFE)


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        (CONFIDENTIAL, SAFE),
        (PROTECTED_PCIE, SAFE),
        (ComputeSettings(2, 1, 0, 2), SAFE),
        (ComputeSettings(0, 0, 0, 0), DeviceState(confidential=False, developer_tools=False, production=False)),
        (ComputeSettings(1, 1, 1, 0), DeviceState(confidential=True, developer_tools=True, production=False)),
    ],
)
def test_the_numbers_of_the_driver_have_a_meaning(settings: ComputeSettings, state: DeviceState) -> None:
    assert device_state(settings) == state


@given(integers(3, 0xFFFFFFFF))
def test_an_unknown_number_counts_as_the_unsafe_answer(number: int) -> None:
    unsafe = DeviceState(confidential=False, developer_tools=True, production=False)
    assert device_state(ComputeSettings(number, number, number, number)) == unsafe


# --- the package -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pynvml() -> ModuleType:
    """The real package: its structures and errors are used, its library is not there."""
    module: ModuleType = pytest.importorskip("pynvml")
    return module


Library = Callable[..., Any]


def package(real: Any, **functions: Library) -> NvmlPackage:  # noqa: ANN401 - a module
    return NvmlPackage(SimpleNamespace(**{**vars(real), **functions}))


def test_bytes_come_out_of_the_structures_of_nvml(pynvml: Any) -> None:  # noqa: ANN401
    given_nonces = []

    def get_report(handle: str, nonce: bytes) -> object:
        given_nonces.append((handle, nonce))
        answer = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
        answer.attestationReportSize = 6
        answer.attestationReport[:8] = tuple(b"report??")
        return answer

    def get_certificate(_handle: str) -> object:
        answer = pynvml.c_nvmlConfComputeGpuCertificate_t()
        answer.attestationCertChainSize = 5
        answer.attestationCertChain[:8] = tuple(b"chain???")
        answer.certChainSize = 3
        answer.certChain[:3] = tuple(b"bad")
        return answer

    nvml = package(
        pynvml,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: f"handle {index}",
        nvmlDeviceGetConfComputeGpuAttestationReport=get_report,
        nvmlDeviceGetConfComputeGpuCertificate=get_certificate,
    )
    assert (nvml.count(), nvml.report(1, NONCE), nvml.chain(0)) == (2, b"report", b"chain")
    assert given_nonces == [("handle 1", NONCE)]


@pytest.mark.parametrize("size", [0, MAX_REPORT + 1, 0xFFFFFFFF])
def test_a_size_that_the_buffer_has_not_is_refused(pynvml: Any, size: int) -> None:  # noqa: ANN401
    answer = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
    answer.attestationReportSize = size
    nvml = package(
        pynvml,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetConfComputeGpuAttestationReport=lambda _handle, _nonce: answer,
    )
    with pytest.raises(UnexpectedDeviceAnswer):
        nvml.report(0, NONCE)


def fill(pointer: Any, *numbers: int) -> int:  # noqa: ANN401 - what ctypes.byref gives
    settings = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint * 5)).contents
    settings[1:] = list(numbers)
    return 0


def test_the_mode_comes_from_the_newer_structure(pynvml: Any) -> None:  # noqa: ANN401
    nvml = package(pynvml, nvmlSystemGetConfComputeSettings=lambda pointer: fill(pointer, 2, 0, 0, 1))
    assert nvml.settings() == PROTECTED_PCIE


def test_an_older_driver_is_asked_for_the_older_structure(pynvml: Any) -> None:  # noqa: ANN401
    def not_found(_pointer: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    state = pynvml.c_nvmlConfComputeSystemState_t(2, 1, 0)
    nvml = package(pynvml, nvmlSystemGetConfComputeSettings=not_found, nvmlSystemGetConfComputeState=lambda: state)
    assert nvml.settings() == CONFIDENTIAL


def test_a_refusal_of_the_driver_names_call_and_reason(pynvml: Any) -> None:  # noqa: ANN401
    def refused(*_arguments: object) -> object:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    nvml = package(
        pynvml,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetConfComputeGpuAttestationReport=refused,
        nvmlSystemGetConfComputeSettings=lambda _pointer: pynvml.NVML_ERROR_NO_PERMISSION,
    )
    with pytest.raises(NvmlFailed, match=r"GpuAttestationReport failed \(Not Supported\)"):
        nvml.report(0, NONCE)
    with pytest.raises(NvmlFailed, match=r"ConfComputeSettings failed \(Insufficient Permissions\)"):
        nvml.settings()


def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(NvmlMissing, match="nvidia-ml-py"), open_nvml("a_package_that_is_not_there"):
        pass


def test_another_package_is_not_taken_for_it() -> None:
    with pytest.raises(NvmlMissing, match="too old"), open_nvml("json"):
        pass


def test_without_the_library_the_error_says_what_to_install(pynvml: Any) -> None:  # noqa: ANN401
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        pass
    except pynvml.NVMLError:
        pytest.skip("there is a library, but no driver")
    else:
        pytest.skip("this machine has NVIDIA's driver")
    with pytest.raises(NvmlMissing, match="driver"):
        NvmlCollector().collect(lambda _: NONCE)
