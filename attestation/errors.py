"""Why evidence is not accepted: one class for each check, so that a refusal names the check that failed."""

from typing import ClassVar


class AttestationError(Exception):
    """Evidence is not accepted; nothing in it may be trusted. ``check`` names the check that failed."""

    check: ClassVar[str]


class MalformedEvidence(AttestationError):
    """The bytes are not an evidence document in its one canonical encoding."""

    check = "syntax"


class UnsupportedEvidence(AttestationError):
    """The document is of a type that this version cannot verify."""

    check = "evidence type"


class InvalidReportSignature(AttestationError):
    """The report was not signed by the root of its type."""

    check = "report signature"


class BindingMismatch(AttestationError):
    """The report does not commit to this nonce and these keys: it is replayed, or speaks for another enclave."""

    check = "binding to nonce and keys"


class SimulatedHardwareRefused(AttestationError):
    """The evidence comes from the simulated TEE, and the policy does not carry the unsafe exception for it."""

    check = "genuine hardware"


class UnacceptedMeasurement(AttestationError):
    """The enclave runs code that is none of the policy's accepted releases."""

    check = "measurement"
