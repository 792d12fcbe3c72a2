"""The simulated TEE: the shape of evidence, and none of its worth. For development and tests.

Its root key is published right here, so that anybody can make such evidence for any code and any key. It therefore has
a type of its own, and every policy but ``UnsafeAcceptSimulated`` refuses it.
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.binding import report_data
from attestation.document import CpuEvidence, CpuType, EvidenceDocument, KeySection
from attestation.errors import InvalidReportSignature, MalformedEvidence
from attestation.measurement import MEASUREMENT

_PUBLISHED_ROOT = Ed25519PrivateKey.from_private_bytes(
    hashlib.sha256(b"The root of Sub Rosa's simulated TEE is public. It proves nothing.").digest()
)
_ROOT_PUBLIC = _PUBLISHED_ROOT.public_key()
_MAGIC = b"SIMULATED TEE v1"
_REPORT_DATA = 64
_SIGNATURE = 64
_SIGNED = len(_MAGIC) + MEASUREMENT + _REPORT_DATA


@dataclass(frozen=True, slots=True)
class SimulatedReport:
    """What the simulated hardware says: the code's measurement, and 64 bytes that the code chose."""

    measurement: bytes
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> "SimulatedReport":
        """Read magic, measurement, report data; the signature is :func:`verify_report`'s.

        Raises:
            MalformedEvidence: another length or another magic.
        """
        if len(data) != _SIGNED + _SIGNATURE or not data.startswith(_MAGIC):
            raise MalformedEvidence("the simulated report has the wrong length or magic")
        body = data[len(_MAGIC) : _SIGNED]
        return cls(measurement=body[:MEASUREMENT], report_data=body[MEASUREMENT:])


def verify_report(data: bytes) -> SimulatedReport:
    """Check the signature of the (published) root.

    Raises:
        MalformedEvidence: not a simulated report.
        InvalidReportSignature: signed by something else.
    """
    report = SimulatedReport.parse(data)
    try:
        _ROOT_PUBLIC.verify(data[_SIGNED:], data[:_SIGNED])
    except InvalidSignature:
        raise InvalidReportSignature("the simulated root did not sign this report") from None
    return report


@dataclass(frozen=True, slots=True)
class SimulatedTee:
    """The attester's side: signs report data for one measurement. 48 bytes, from :func:`attestation.measure`."""

    measurement: bytes

    def __post_init__(self) -> None:
        if len(self.measurement) != MEASUREMENT:
            raise ValueError("a measurement is 48 bytes")

    def collect(self, reported: bytes) -> CpuEvidence:
        """A report over 64 bytes of report data: what a processor's collector does, with nothing behind it."""
        signed = _MAGIC + self.measurement + reported
        return CpuEvidence(CpuType.SIMULATED, signed + _PUBLISHED_ROOT.sign(signed))

    def attest(self, nonce: bytes, keys: KeySection) -> bytes:
        """An evidence document for ``nonce`` and ``keys``, without devices.

        Raises:
            ValueError: the nonce is not 32 bytes.
        """
        return EvidenceDocument(keys, self.collect(report_data(nonce, keys))).encode()
