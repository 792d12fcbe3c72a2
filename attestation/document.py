"""An evidence document: what the hardware says, and the keys that it speaks for. Syntax only; nothing is trusted yet.

One canonical JSON object carries the processor's report, the reports of GPUs and switches, and the keys. The nonce is not
in it: a verifier uses its own. ``attestation.binding`` says what commits to what.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from attestation.encoding import as_list, as_name, as_object, decode, encode, from_base64, to_base64
from attestation.errors import MalformedEvidence
from attestation.limits import (
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    MAX_DEVICES,
    MAX_DOCUMENT,
    MAX_EVENT_LOG,
    MAX_NAME,
    MAX_REPORT,
)

VERSION = 2
IDENTITY_KEY = 33  # bytes: a type byte 0x05, then the Curve25519 point (libsignal)
RECEIPT_KEY = 32  # bytes: an Ed25519 public key (RFC 8032)


class CpuType(StrEnum):
    """What kind of machine the processor's report speaks of."""

    SEV_SNP = "sev-snp"
    SEV_SNP_AZURE = "sev-snp-azure"
    TDX = "tdx"
    SIMULATED = "simulated"


class DeviceType(StrEnum):
    """What kind of device a report speaks of."""

    GPU = "nvidia-gpu"
    SWITCH = "nvidia-switch"


@dataclass(frozen=True, slots=True)
class KeySection:
    """The keys made inside the TEE at start.

    ``identity_key`` is the Signal identity that messages are encrypted to; ``receipt_key`` the Ed25519 key that signs
    receipts of answers; ``release`` names the running version.
    """

    identity_key: bytes
    receipt_key: bytes
    release: str

    def digest(self) -> bytes:
        """SHA-256 of the canonical form: what the report commits to."""
        return hashlib.sha256(encode(self.members())).digest()

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "identity_key": to_base64(self.identity_key),
            "receipt_key": to_base64(self.receipt_key),
            "release": self.release,
        }

    @classmethod
    def read(cls, value: object) -> "KeySection":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing or of the wrong length.
        """
        members = as_object(value)
        keys = cls(
            identity_key=from_base64(members.get("identity_key")),
            receipt_key=from_base64(members.get("receipt_key")),
            release=as_name(members.get("release"), limit=MAX_NAME),
        )
        if len(keys.identity_key) != IDENTITY_KEY or len(keys.receipt_key) != RECEIPT_KEY:
            raise MalformedEvidence("a key has the wrong length")
        return keys


@dataclass(frozen=True, slots=True)
class CpuEvidence:
    """The processor's report, and what helps to check it.

    ``certificates`` are DER, the signer's first: an endorsement that may as well come from a cache. ``event_log`` explains
    the registers of a TDX machine. ``tpm`` is only for Azure: the quote of its virtual TPM.
    """

    type: CpuType
    report: bytes = field(repr=False)
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    event_log: bytes = field(default=b"", repr=False)
    tpm: "TpmQuote | None" = None

    def members(self) -> dict[str, object]:
        """The JSON members; what is empty is left out."""
        members: dict[str, object] = {"report": to_base64(self.report), "type": str(self.type)}
        if self.certificates:
            members["certificates"] = [to_base64(certificate) for certificate in self.certificates]
        if self.event_log:
            members["event_log"] = to_base64(self.event_log)
        if self.tpm is not None:
            members["tpm"] = self.tpm.members()
        return members

    @classmethod
    def read(cls, value: object) -> "CpuEvidence":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing, of another type, or too large.
        """
        members = as_object(value)
        try:
            kind = CpuType(as_name(members.get("type"), limit=MAX_NAME))
        except ValueError:
            raise MalformedEvidence("the type of the processor's report is unknown to this version") from None
        return cls(
            type=kind,
            report=_bounded(members.get("report"), MAX_REPORT),
            certificates=_certificates(members.get("certificates", [])),
            event_log=_bounded(members.get("event_log", ""), MAX_EVENT_LOG),
            tpm=None if "tpm" not in members else TpmQuote.read(members["tpm"]),
        )


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """A quote of a TPM 2.0: the attested structure, its signature, and the registers that it is over.

    ``pcrs`` are the SHA-256 registers 0 to 23, 32 bytes each.
    """

    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    pcrs: tuple[bytes, ...] = field(repr=False)

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "message": to_base64(self.message),
            "pcrs": [to_base64(register) for register in self.pcrs],
            "signature": to_base64(self.signature),
        }

    @classmethod
    def read(cls, value: object) -> "TpmQuote":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing, of another type, or too large.
        """
        members = as_object(value)
        pcrs = tuple(from_base64(register) for register in as_list(members.get("pcrs"), limit=PCRS))
        if len(pcrs) != PCRS or any(len(register) != PCR for register in pcrs):
            raise MalformedEvidence("the registers of the TPM are not 24 of 32 bytes")
        return cls(_bounded(members.get("message"), MAX_REPORT), _bounded(members.get("signature"), MAX_REPORT), pcrs)


PCRS = 24  # registers of one bank (TCG PC Client Platform TPM Profile, section 4.6)
PCR = 32  # bytes: SHA-256


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the driver says of a device's mode, as the attested code read it: NVML signs nothing of this.

    ``confidential`` is the confidential-computing feature, ``developer_tools`` the debugging mode of it, ``production`` says
    that the environment is the production one and not a simulation.
    """

    confidential: bool
    developer_tools: bool
    production: bool

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "confidential": self.confidential,
            "developer_tools": self.developer_tools,
            "production": self.production,
        }

    @classmethod
    def read(cls, value: object) -> "DeviceState":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing or no boolean.
        """
        members = as_object(value)
        flags = [members.get(name) for name in ("confidential", "developer_tools", "production")]
        if not all(isinstance(flag, bool) for flag in flags):
            raise MalformedEvidence("the state of a device is not three booleans")
        return cls(*(flag is True for flag in flags))


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """One GPU or switch: its SPDM report (request, then response), its certificates in DER, leaf first, and its mode."""

    type: DeviceType
    report: bytes = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)
    state: DeviceState

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "certificates": [to_base64(certificate) for certificate in self.certificates],
            "report": to_base64(self.report),
            "state": self.state.members(),
            "type": str(self.type),
        }

    @classmethod
    def read(cls, value: object) -> "DeviceEvidence":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing, of another type, or too large.
        """
        members = as_object(value)
        try:
            kind = DeviceType(as_name(members.get("type"), limit=MAX_NAME))
        except ValueError:
            raise MalformedEvidence("the type of a device is unknown to this version") from None
        return cls(
            type=kind,
            report=_bounded(members.get("report"), MAX_REPORT),
            certificates=_certificates(members.get("certificates")),
            state=DeviceState.read(members.get("state")),
        )


@dataclass(frozen=True, slots=True)
class EvidenceDocument:
    """What an enclave answers to a nonce. ``devices`` stand in the order in which their nonces were derived."""

    keys: KeySection
    cpu: CpuEvidence
    devices: tuple[DeviceEvidence, ...] = ()

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode(
            {
                "cpu": self.cpu.members(),
                "devices": device_members(self.devices),
                "keys": self.keys.members(),
                "version": VERSION,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "EvidenceDocument":
        """Undo :meth:`encode`.

        Raises:
            MalformedEvidence: anything but the canonical encoding of a document of this version.
        """
        members = decode(data, limit=MAX_DOCUMENT)
        document = cls(
            keys=KeySection.read(members.get("keys")),
            cpu=CpuEvidence.read(members.get("cpu")),
            devices=tuple(DeviceEvidence.read(device) for device in as_list(members.get("devices"), limit=MAX_DEVICES)),
        )
        if document.encode() != data:
            raise MalformedEvidence("the document is not in canonical form, or has members unknown to this version")
        return document


def device_members(devices: tuple[DeviceEvidence, ...]) -> list[object]:
    """The JSON of all devices: what the report commits to."""
    return [device.members() for device in devices]


def _certificates(value: object) -> tuple[bytes, ...]:
    return tuple(_bounded(item, MAX_CERTIFICATE) for item in as_list(value, limit=MAX_CERTIFICATES))


def _bounded(value: object, limit: int) -> bytes:
    data = from_base64(value)
    if len(data) > limit:
        raise MalformedEvidence("a member is too large")
    return data
