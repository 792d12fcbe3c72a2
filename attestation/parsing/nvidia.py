"""Reports of NVIDIA GPUs (Hopper, Blackwell) and NVSwitches: an SPDM exchange of measurements.

Source: DMTF DSP0274, Security Protocol and Data Model 1.1, sections 10.11 (GET_MEASUREMENTS, MEASUREMENTS) and DMTF measurement blocks;
the opaque part and the names of manifests are NVIDIA's: field numbers and rules as in NVIDIA/nvtrust and NVIDIA/attestation-sdk,
confirmed against real reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from attestation.errors import MalformedEvidence
from attestation.parsing.reader import Reader

REQUEST = 37  # bytes: header 4, nonce 32, slot 1
SIGNATURE = 96  # bytes: r, then s, most significant first (ECDSA P-384)
_GET_MEASUREMENTS: Final = bytes.fromhex("11e001ff")  # SPDM 1.1; ask for a signature, and for all measurements
_MEASUREMENTS: Final = bytes.fromhex("1160")
_DMTF = 1
_DIGEST = 48
_NVDEC0 = 35
_ENABLED: Final = b"\xaa"
_DISABLED: Final = b"\x55"
_RAW_DIGEST_TYPES: Final = range(0x05)  # DMTFSpecMeasurementValueType of digests: bit 7 clear


class Opaque(IntEnum):
    """Numbers of NVIDIA's opaque fields that are read here."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FWID = 20
    DEVICE_IDENTIFIER = 22  # of a switch; on a GPU those of the switches around it
    CHIP = 35


_NAMES: Final = (Opaque.CHIP_SKU, Opaque.PROJECT, Opaque.PROJECT_SKU, Opaque.CHIP)  # texts that manifests are named by


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What the bytes of a report say: an SPDM request, and the response to it.

    Attributes, with their names in SPDM (DSP0274 1.1, section 10.11):
        nonce: Nonce of GET_MEASUREMENTS, 32 bytes: the requester's challenge.
        measurements: MeasurementRecord: index, counted from 0 as manifests do (SPDM counts from 1), to a SHA-384 digest.
        opaque: OpaqueData: NVIDIA's field number (:class:`Opaque`) to its value.
        signed: everything that the signature is over: the request, then the response without it.
        r, s: Signature, 48 bytes each, most significant first.
    """

    nonce: bytes
    measurements: Mapping[int, bytes] = field(repr=False)
    opaque: Mapping[int, bytes] = field(repr=False)
    signed: bytes = field(repr=False)
    r: int = field(repr=False)
    s: int = field(repr=False)

    @property
    def fwid(self) -> bytes | None:
        """Digest of the early firmware that the device's key was derived with; switches report none."""
        return self.opaque.get(Opaque.FWID)

    @property
    def unmeasured(self) -> frozenset[int]:
        """Indices, counted from 0, that say nothing: 35 is the video decoder's, which may be switched off (field 11)."""
        return frozenset({_NVDEC0}) if self.opaque.get(Opaque.NVDEC0_STATUS) == _DISABLED else frozenset()

    @property
    def chip(self) -> str:
        """The chip's name as newer reports have it, under which its driver's manifest is published; empty in older ones."""
        return self._opaque_text(Opaque.CHIP)

    @property
    def driver_rim(self) -> str:
        """The name under which NVIDIA publishes the reference values of this driver; empty for a switch."""
        if not self.driver_version:
            return ""
        chip = self.chip
        return (
            f"NV_GPU_CC_DRIVER_{chip}_{self.driver_version}" if chip else f"NV_GPU_DRIVER_GH100_{self.driver_version}"
        )

    @property
    def vbios_rim(self) -> str:
        """The name under which NVIDIA publishes the reference values of this VBIOS, or of this switch's BIOS."""
        version = self.vbios_version.replace(".", "").upper()
        if not self.driver_version:
            return f"NV_SWITCH_BIOS_5612_0002_890_{version}"
        parts = (self._opaque_text(part).upper() for part in (Opaque.PROJECT, Opaque.PROJECT_SKU, Opaque.CHIP_SKU))
        return f"NV_GPU_VBIOS_{'_'.join(parts)}_{version}"

    def _opaque_text(self, number: Opaque) -> str:
        return _text(self.opaque.get(number, b""))

    @property
    def driver_version(self) -> str:
        """As in ``590.12``; empty if the report has none, as those of switches."""
        return _text(self.opaque.get(Opaque.DRIVER_VERSION, b""))

    @property
    def vbios_version(self) -> str:
        """As in ``96.00.A5.00.01``: eight bytes on a GPU, text on a switch."""
        value = self.opaque.get(Opaque.VBIOS_VERSION, b"")
        if len(value) != 8:  # bytes of the binary form
            return _text(value)
        return ".".join(f"{byte:02X}" for byte in (value[3], value[2], value[1], value[0], value[4]))

    @classmethod
    def parse(cls, data: bytes) -> "DeviceReport":
        """Read request and response.

        Raises:
            MalformedEvidence: a length does not fit, an index or a field comes twice, a measurement is no SHA-384 digest, a
                version is no text, a state has no known meaning, or bytes follow the signature.
        """
        read = Reader(data, "device report")
        read.expect(_GET_MEASUREMENTS, "request")
        nonce = read.take(32)
        read.take(1)  # slot
        read.expect(_MEASUREMENTS, "response")
        read.take(2)  # parameters
        count = read.little(1)
        record = Reader(read.take(read.little(3)), "device report's measurement record")
        measurements = _measurements(record, count)
        read.take(32)  # the responder's nonce
        opaque = _opaque(Reader(read.take(read.little(2)), "device report's opaque data"))
        signed = data[: read.position]
        r, s = read.big(SIGNATURE // 2), read.big(SIGNATURE // 2)
        read.end()
        report = cls(nonce, measurements, opaque, signed, r, s)
        report._validate_fields()
        return report

    def _validate_fields(self) -> None:
        """Refuse here what the properties could not make sense of, so that those never fail."""
        if self.opaque.get(Opaque.NVDEC0_STATUS, _ENABLED) not in (_ENABLED, _DISABLED):
            raise MalformedEvidence("the state of the video decoder has no known meaning")
        texts = [self.driver_version, self.vbios_version, *map(self._opaque_text, _NAMES)]
        if not all(text.isascii() and text.isprintable() for text in texts):
            raise MalformedEvidence("a version of the device is not printable text")


def _measurements(read: Reader, count: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for _ in range(count):
        index, specification = read.little(1), read.little(1)
        block = Reader(read.take(read.little(2)), "device report's measurement")
        kind, digest = block.little(1), block.take(block.little(2))
        block.end()
        if specification != _DMTF or kind not in _RAW_DIGEST_TYPES or len(digest) != _DIGEST:
            raise MalformedEvidence("a measurement of the device is no SHA-384 digest")
        if index == 0 or index - 1 in found:
            raise MalformedEvidence("the device reports a measurement twice, or under a number that there is not")
        found[index - 1] = digest
    read.end()
    return found


def _opaque(read: Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while read.left:
        number = read.little(2)
        if number in found:
            raise MalformedEvidence("the device reports an opaque field twice")
        found[number] = read.take(read.little(2))
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")
