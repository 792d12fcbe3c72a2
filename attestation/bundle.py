"""A bundle: evidence, the nonce it answers, the time and the collateral for it, in one file that needs no network.

Who saves a bundle lets anybody check, years later, what was proved at that time: appraise ``evidence`` with ``nonce``,
``collateral`` and ``time`` as the present. The file proves no time of its own: who doubts ``time`` compares it with
what the vendors dated. Nothing in it is trusted before the appraisal, and nothing in it is secret, but it names
machines.

The file is one canonical JSON object and one newline. Syntax only: no input, no output, no clock.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from attestation.binding import NONCE
from attestation.collateral import Collateral
from attestation.encoding import decode, encode, from_base64, to_base64
from attestation.errors import MalformedCollateral, MalformedEvidence
from attestation.limits import MAX_BUNDLE, MAX_DOCUMENT

VERSION = 1
_END = b"\n"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")  # RFC 3339, section 5.6, in UTC


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that an appraisal takes but the policy.

    ``nonce`` is 32 bytes, the verifier's own. ``time`` is when the evidence was made and appraised: aware, whole
    seconds. ``evidence`` is an evidence document as the enclave sent it; only the appraisal reads it.
    """

    nonce: bytes
    time: datetime
    evidence: bytes = field(repr=False)
    collateral: Collateral

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE:
            raise ValueError("a nonce is 32 bytes")
        if len(self.evidence) > MAX_DOCUMENT:
            raise ValueError("the evidence is too large")
        _write_time(self.time)

    def encode(self) -> bytes:
        """The file; :meth:`parse` reads whatever this writes.

        Raises:
            ValueError: it would be larger than ``MAX_BUNDLE``, or a part of the collateral is too large, or no text.
        """
        data = self._write()
        try:
            Collateral.read(self.collateral.members())
        except MalformedCollateral as error:
            raise ValueError(str(error)) from None
        if len(data) > MAX_BUNDLE:
            raise ValueError("the bundle is too large")
        return data

    def _write(self) -> bytes:
        members = {
            "bundle": VERSION,
            "collateral": self.collateral.members(),
            "evidence": to_base64(self.evidence),
            "nonce": to_base64(self.nonce),
            "time": _write_time(self.time),
        }
        return encode(members) + _END

    @classmethod
    def parse(cls, data: bytes) -> "Bundle":
        """Undo :meth:`encode`.

        Raises:
            MalformedEvidence: anything but the canonical encoding of a bundle of this version and its newline.
            MalformedCollateral: the collateral in it cannot be read.
        """
        members = decode(data, limit=MAX_BUNDLE)
        nonce, evidence = from_base64(members.get("nonce")), from_base64(members.get("evidence"))
        if len(nonce) != NONCE or len(evidence) > MAX_DOCUMENT:
            raise MalformedEvidence("a member of the bundle has the wrong length")
        bundle = cls(nonce, _read_time(members.get("time")), evidence, Collateral.read(members.get("collateral")))
        try:
            canonical = bundle._write()
        except ValueError:
            raise MalformedCollateral("a text of the collateral is no text") from None
        if canonical != data:
            raise MalformedEvidence("the bundle is not in canonical form, or has members unknown to this version")
        return bundle


def _write_time(time: datetime) -> str:
    try:
        utc = time.astimezone(UTC) if time.tzinfo is not None else None
    except OverflowError:
        utc = None
    if utc is None or utc.microsecond:
        raise ValueError("the time of a bundle has a time zone and whole seconds")
    return utc.isoformat().replace("+00:00", "Z")


def _read_time(text: object) -> datetime:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise MalformedEvidence("the time of the bundle is not written as 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise MalformedEvidence("the time of the bundle is none of the calendar") from None
