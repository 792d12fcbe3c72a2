"""Certificates beside a report: as a host hands them over, as files in a folder, and as text. Nothing is trusted.

Whether a certificate belongs to a report, and leads to AMD or NVIDIA, is for verifiers to find out. Here it has to be
DER in one piece, so that what is sent can be read.
"""

import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from uuid import UUID

from attestation.collecting.errors import MalformedCertificateTable, UnusableCertificate
from attestation.collecting.files import read_bounded
from attestation.limits import MAX_CERTIFICATE, MAX_CERTIFICATES

MAX_ENTRIES = 32  # of a host's table: five kinds are defined
MAX_FILE = 2 * MAX_CERTIFICATE  # bytes of a file in the folder: base64, with room for the text around it
ENTRY = 24  # bytes: GUID 16, offset 4, length 4
SIGNING_KEY = 0x48  # offset of the report's flags; bits 2 to 4 name the key that signed

_SEQUENCE = 0x30
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


class Endorsement(StrEnum):
    """The certificates of a SEV-SNP processor; the name is that of its file in a folder.

    ``ASK`` stands for whatever issued the leaf: of a VLEK that is the ASVK, for which hosts use the same entry.
    """

    VCEK = "vcek"
    VLEK = "vlek"
    ASK = "ask"
    ARK = "ark"


# The GHCB specification writes GUIDs as text; on the wire their bytes stand in the order of the text (RFC 4122), not in
# the mixed order of UEFI. The revocation list, 92f81bc3-5811-4d3d-97ff-d19f88dc67ea, is passed over: verifiers get
# their own.
_GUIDS = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes: Endorsement.VCEK,
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes: Endorsement.VLEK,
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes: Endorsement.ASK,
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes: Endorsement.ARK,
}


def parse_certificate_table(table: bytes) -> dict[Endorsement, bytes]:
    """The certificates, in DER, that a host handed over with a SEV-SNP report. No table, and one of zeros, hold none.

    Entries stand first, up to one of zeros; offsets count from the start of the table. Entries of other kinds are
    passed over, but have to be well-formed too.

    Raises:
        MalformedCertificateTable: the end is missing, or an entry points outside or into the entries, stands twice, or
            holds something else than a certificate.

    Source: AMD, SEV-ES Guest-Hypervisor Communication Block Standardization (document 56421), section 4.1.8.1,
    MSG_REPORT_REQ.
    """
    if not any(table):
        return {}
    entries = _entries(table)
    first_free = ENTRY * (len(entries) + 1)
    certificates: dict[Endorsement, bytes] = {}
    for guid, start, length in entries:
        if start < first_free or start + length > len(table):
            raise MalformedCertificateTable("an entry of the host's certificate table points outside of it")
        kind = _GUIDS.get(guid)
        if kind in certificates:
            raise MalformedCertificateTable("the host's certificate table has an entry twice")
        if kind is not None:
            certificates[kind] = _from_table(table[start : start + length])
    return certificates


def _entries(table: bytes) -> list[tuple[bytes, int, int]]:
    entries: list[tuple[bytes, int, int]] = []
    for start in range(0, ENTRY * (MAX_ENTRIES + 1), ENTRY):
        entry = table[start : start + ENTRY]
        if len(entry) < ENTRY:
            break
        if not any(entry):
            return entries
        entries.append((entry[:16], int.from_bytes(entry[16:20], "little"), int.from_bytes(entry[20:], "little")))
    raise MalformedCertificateTable("the host's certificate table has no end, or too many entries")


def _from_table(data: bytes) -> bytes:
    try:
        return one_certificate(data)
    except ValueError as error:
        raise MalformedCertificateTable(f"the host's certificate table has a bad entry: {error}") from None


def endorsements(report: bytes, given: Mapping[Endorsement, bytes]) -> tuple[bytes, ...]:
    """The chain of the key that signed ``report``, that key's certificate first, up to the first gap."""
    order = signers(report)
    return tuple(given[kind] for kind in takewhile(given.__contains__, order))


def signers(report: bytes) -> tuple[Endorsement, ...]:
    """The kinds of certificate that a SEV-SNP report needs, that of its signer first.

    Source: AMD, SEV Secure Nested Paging Firmware ABI (document 56860), ATTESTATION_REPORT, SIGNING_KEY.
    """
    flags = int.from_bytes(report[SIGNING_KEY : SIGNING_KEY + 4], "little")
    leaf = Endorsement.VLEK if (flags >> 2) & 7 == 1 else Endorsement.VCEK
    return leaf, Endorsement.ASK, Endorsement.ARK


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """A folder with certificates of this processor, for hosts that hand over none.

    The files are named as AMD's tools name them: ``vcek``, ``vlek``, ``ask``, ``ark``, each with the ending ``.der`` or
    ``.pem`` (of both, ``.der`` counts), one certificate in each. For a VLEK, ``ask`` holds the ASVK. What is missing is
    left out. A VCEK belongs to one chip and one firmware level: whoever updates the firmware has to renew it, or
    verifiers refuse.
    """

    path: Path

    def read(self) -> dict[Endorsement, bytes]:
        """What is there, in DER.

        Raises:
            UnusableCertificate: a file cannot be read, or holds something else.
            OversizedAnswer: a file is too large.
        """
        found = {kind: self._certificate(kind) for kind in Endorsement}
        return {kind: certificate for kind, certificate in found.items() if certificate is not None}

    def _certificate(self, kind: Endorsement) -> bytes | None:
        for name in (f"{kind}.der", f"{kind}.pem"):
            try:
                return one_certificate(read_bounded(self.path / name, MAX_FILE))
            except FileNotFoundError:
                continue
            except OSError:
                raise UnusableCertificate(f"{name} cannot be read") from None
            except ValueError as error:
                raise UnusableCertificate(f"{name} is not usable: {error}") from None
        return None


def one_certificate(data: bytes) -> bytes:
    """The DER of a certificate that is there as DER or as PEM. Bytes behind DER are dropped, because hosts may pad.

    Raises:
        ValueError: there is none, or more than one, or it is too large.
    """
    if data[:1] != bytes([_SEQUENCE]) and b"-----BEGIN CERTIFICATE-----" in data:  # text may stand before it
        found = certificates_from_pem(data)
        if len(found) != 1:
            raise ValueError("there is more than one certificate")
        return found[0]
    certificate = data[: _der_length(data)]
    if len(certificate) > MAX_CERTIFICATE:
        raise ValueError("the certificate is too large")
    return certificate


def certificates_from_pem(text: bytes) -> tuple[bytes, ...]:
    """The DER of each certificate of a PEM text, in its order (RFC 7468).

    Raises:
        ValueError: there is none, there are too many, or one is not base64, not DER, or too large.
    """
    try:
        found = tuple(a2b_base64(body) for body in _PEM.findall(text))
    except NotBase64:
        raise ValueError("a certificate is not base64") from None
    if not 0 < len(found) <= MAX_CERTIFICATES:
        raise ValueError("there is no certificate, or there are too many")
    for certificate in found:
        if len(certificate) > MAX_CERTIFICATE or _der_length(certificate) != len(certificate):
            raise ValueError("a certificate is not one piece of DER, or too large")
    return found


def _der_length(data: bytes) -> int:
    """How many bytes the DER sequence at the start of ``data`` has, with its tag and length (X.690, section 8.1.3)."""
    if len(data) < 2 or data[0] != _SEQUENCE:
        raise ValueError("the certificate is not DER")
    digits = data[1] - 0x80 if data[1] > 0x80 else 0
    length = 2 + digits + (int.from_bytes(data[2 : 2 + digits], "big") if digits else data[1])
    if digits > 3 or data[1] == 0x80 or length > len(data):
        raise ValueError("the certificate is not DER, or cut off")
    return length
