"""Reports of NVIDIA's GPUs through NVML, the management library of the driver (package ``nvidia-ml-py``).

What NVML calls the attestation report is already the whole exchange: the SPDM request of 37 bytes, then the response
with the signature; NVIDIA's own verifier cuts it there. It is checked to be so, and passed on as it is.

NVSwitches do not answer through NVML but through NSCQ, a library of its own. They are not collected here: evidence of a
machine whose GPUs trust their switches (Protected PCIe) is not complete, and a verifier has to know that.

Sources: NVIDIA/nvtrust, local GPU verifier; NVIDIA/attestation-sdk, nvml_client.cpp; NVIDIA/open-gpu-kernel-modules,
conf_compute_api.c, for what the states mean; DMTF DSP0274, SPDM 1.1, section 10.11.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from attestation.collecting.certificates import certificates_from_pem
from attestation.collecting.errors import NoGpu, NvmlFailed, NvmlMissing, UnexpectedDeviceAnswer
from attestation.document import DeviceEvidence, DeviceState, DeviceType
from attestation.limits import MAX_DEVICES

NONCE = 32  # bytes
REQUEST = 37  # bytes: header 4, nonce 32, slot 1
MAX_REPORT = 8 * 1024  # bytes: NVML's buffer
MAX_CHAIN = 5 * 1024  # bytes of PEM: NVML's buffer

_GET_MEASUREMENTS = bytes.fromhex("11e0")  # SPDM 1.1, request
_MEASUREMENTS = bytes.fromhex("1160")  # SPDM 1.1, its response

# nvml.h, NVML_CC_SYSTEM_…
_FEATURE_ENABLED = 1
_MULTI_GPU_PROTECTED = {1, 2}  # Protected PCIe, and encrypted NVLink
_DEVELOPER_TOOLS_OFF = 0
_ENVIRONMENT_PRODUCTION = 2


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """NVML's numbers for the confidential mode of all GPUs together (``nvmlSystemConfComputeSettings_v1_t``)."""

    environment: int
    feature: int
    developer_tools: int
    multi_gpu: int


class Nvml(Protocol):
    """What is needed of NVML. All methods raise ``CollectionError`` if the driver refuses."""

    def count(self) -> int:
        """How many GPUs there are; NVML numbers them by their place on the bus."""
        ...

    def settings(self) -> ComputeSettings:
        """The confidential mode."""
        ...

    def report(self, index: int, nonce: bytes) -> bytes:
        """The attestation report over ``nonce``, 32 bytes."""
        ...

    def chain(self, index: int) -> bytes:
        """The chain of the key that signs reports: PEM, leaf first."""
        ...


@dataclass(frozen=True, slots=True)
class NvmlPackage:
    """NVML through the package ``nvidia-ml-py``; ``package`` is its module ``pynvml``, initialised."""

    package: Any

    def count(self) -> int:
        """See :class:`Nvml`."""
        return int(self._call("nvmlDeviceGetCount"))

    def settings(self) -> ComputeSettings:
        """See :class:`Nvml`. Drivers before 550 only know a structure without the mode of many GPUs."""
        settings = self.package.c_nvmlSystemConfComputeSettings_v1_t()
        try:
            code = self.package.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
        except self.package.NVMLError_FunctionNotFound:
            settings, code = self._call("nvmlSystemGetConfComputeState"), self.package.NVML_SUCCESS
        if code != self.package.NVML_SUCCESS:
            raise NvmlFailed(f"nvmlSystemGetConfComputeSettings failed ({self.package.NVMLError(code)})")
        return ComputeSettings(
            environment=settings.environment,
            feature=settings.ccFeature,
            developer_tools=settings.devToolsMode,
            multi_gpu=getattr(settings, "multiGpuMode", 0),
        )

    def report(self, index: int, nonce: bytes) -> bytes:
        """See :class:`Nvml`."""
        answer = self._call("nvmlDeviceGetConfComputeGpuAttestationReport", self._handle(index), nonce)
        return _filled(answer.attestationReport, answer.attestationReportSize)

    def chain(self, index: int) -> bytes:
        """See :class:`Nvml`."""
        answer = self._call("nvmlDeviceGetConfComputeGpuCertificate", self._handle(index))
        return _filled(answer.attestationCertChain, answer.attestationCertChainSize)

    def _handle(self, index: int) -> Any:  # noqa: ANN401 - a pointer of the package
        return self._call("nvmlDeviceGetHandleByIndex", index)

    def _call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - structures of the package
        try:
            return getattr(self.package, name)(*arguments)
        except self.package.NVMLError as error:
            raise NvmlFailed(f"{name} failed ({error})") from None


@contextmanager
def open_nvml(package: str = "pynvml") -> Iterator[Nvml]:
    """NVML, for as long as the block lasts.

    Raises:
        NvmlMissing: neither package nor library, or they are too old.
        NvmlFailed: the driver refuses.
    """
    try:
        module: Any = import_module(package)
    except ImportError:
        raise NvmlMissing("the package nvidia-ml-py is not installed") from None
    if not hasattr(module, "c_nvmlSystemConfComputeSettings_v1_t"):  # the newest thing that is needed of it
        raise NvmlMissing("the package nvidia-ml-py is too old")
    try:
        module.nvmlInit()
    except module.NVMLError_LibraryNotFound:
        raise NvmlMissing("NVIDIA's library libnvidia-ml.so.1 is not installed") from None
    except module.NVMLError as error:
        raise NvmlFailed(f"nvmlInit failed ({error})") from None
    try:
        yield NvmlPackage(module)
    finally:
        with suppress(module.NVMLError):
            module.nvmlShutdown()


@dataclass(frozen=True, slots=True)
class NvmlCollector:
    """Collects all GPUs, in NVML's order. The calls have no deadline of their own: the attester has one."""

    open: Callable[[], AbstractContextManager[Nvml]] = open_nvml

    def collect(self, nonces: Callable[[int], bytes]) -> tuple[DeviceEvidence, ...]:
        """New reports of all GPUs; the one at index ``i`` answers ``nonces(i)``.

        No GPU is asked twice: see ``NvmlFailed``.

        Raises:
            CollectionError: NVML is missing or refuses, there is no GPU, or an answer is not what verifiers know.
        """
        with self.open() as nvml:
            count = nvml.count()
            if not count:
                raise NoGpu("NVML sees no GPU")
            if count > MAX_DEVICES:
                raise UnexpectedDeviceAnswer("there are more GPUs than evidence can hold")
            state = device_state(nvml.settings())
            return tuple(_collect_gpu(nvml, index, nonces(index), state) for index in range(count))


def _collect_gpu(nvml: Nvml, index: int, nonce: bytes, state: DeviceState) -> DeviceEvidence:
    return gpu_evidence(nvml.report(index, nonce), nvml.chain(index), nonce, state)


def gpu_evidence(report: bytes, chain: bytes, nonce: bytes, state: DeviceState) -> DeviceEvidence:
    """Evidence of one GPU, from the bytes of NVML: ``chain`` is PEM.

    Raises:
        UnexpectedDeviceAnswer: the report is not a request over ``nonce`` and its response, or the chain is not one.
    """
    if not report.startswith(_GET_MEASUREMENTS) or report[REQUEST : REQUEST + 2] != _MEASUREMENTS:
        raise UnexpectedDeviceAnswer("a GPU's report is not an SPDM 1.1 request with its response")
    if len(report) > MAX_REPORT or len(chain) > MAX_CHAIN:
        raise UnexpectedDeviceAnswer("a GPU's answer is too large")
    if report[4 : 4 + NONCE] != nonce:
        raise UnexpectedDeviceAnswer("a GPU answered another challenge")
    try:
        certificates = certificates_from_pem(chain)
    except ValueError as error:
        raise UnexpectedDeviceAnswer(f"a GPU's chain of certificates is not usable: {error}") from None
    return DeviceEvidence(DeviceType.GPU, report, certificates, state)


def device_state(settings: ComputeSettings) -> DeviceState:
    """What NVML's numbers mean; unknown ones count as the unsafe answer.

    With Protected PCIe the driver says that the confidential feature is off, although the GPU is protected: the mode of
    many GPUs counts instead.
    """
    return DeviceState(
        confidential=settings.feature == _FEATURE_ENABLED or settings.multi_gpu in _MULTI_GPU_PROTECTED,
        developer_tools=settings.developer_tools != _DEVELOPER_TOOLS_OFF,
        production=settings.environment == _ENVIRONMENT_PRODUCTION,
    )


def _filled(buffer: Any, size: int) -> bytes:  # noqa: ANN401 - an array of the package
    if not 0 < size <= len(buffer):
        raise UnexpectedDeviceAnswer("NVML gave nothing, or more than its buffer holds")
    return bytes(buffer)[:size]
