"""Why evidence is not accepted: one class for each check, so that a refusal names the check that failed.

``check`` is a short name for machines and people; ``kind`` says at which of the three levels the evidence fell
(RFC 9334, section 3: what the bytes say, whether the hardware said it, whether we accept it); ``meaning`` is what a
security officer should conclude. The text of an error names the rule broken, never the bytes that broke it.
"""

from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """Which question was answered with no."""

    SYNTAX = "syntax"
    CRYPTOGRAPHY = "cryptography"
    POLICY = "policy"


class AttestationError(Exception):
    """Evidence is not accepted; nothing in it may be trusted. ``check`` names the check that failed."""

    check: ClassVar[str]
    kind: ClassVar[Kind]
    meaning: ClassVar[str]


# --- what the bytes say ----------------------------------------------------------------------------------------------


class MalformedEvidence(AttestationError):
    """The bytes are not an evidence document, or not a report, in the one encoding that is allowed."""

    check = "syntax"
    kind = Kind.SYNTAX
    meaning = "The evidence is damaged, or was made to be read in two ways. Nothing about the machine is known."


class UnsupportedEvidence(AttestationError):
    """The document or report is of a type or version that this verifier does not know."""

    check = "evidence type"
    kind = Kind.SYNTAX
    meaning = "This verifier cannot judge this machine. That is no proof against it, and none for it."


class MalformedCollateral(AttestationError):
    """A certificate, a revocation list, a reference manifest or TCB information cannot be read."""

    check = "collateral syntax"
    kind = Kind.SYNTAX
    meaning = "The vendor's documents beside the evidence are damaged: fetch them again."


class MalformedPolicy(AttestationError):
    """A policy document is not well-formed, or asks for something that only an ``Unsafe`` name allows."""

    check = "policy document"
    kind = Kind.SYNTAX
    meaning = "Without a policy that can be read nothing is accepted."


class MalformedReceipt(AttestationError):
    """The bytes are not a receipt, in the one encoding that is allowed."""

    check = "receipt syntax"
    kind = Kind.SYNTAX
    meaning = "The receipt is damaged, of a version unknown here, or made to be read in two ways. It shows nothing."


# --- whether the hardware said it ------------------------------------------------------------------------------------


class UntrustedRoot(AttestationError):
    """The chain does not end in a root of the vendor that is pinned here."""

    check = "vendor root"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The signature chain leads to somebody who is not the vendor: the evidence may be made up."


class BrokenChain(AttestationError):
    """A certificate was not issued by the next one, or may not issue."""

    check = "certificate chain"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The vendor did not vouch for the key that signed: the evidence may be made up."


class InvalidReportSignature(AttestationError):
    """The report was not signed by the key that its chain vouches for."""

    check = "report signature"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The report was changed after signing, or another machine made it."


class EndorsementMismatch(AttestationError):
    """The certificate is genuine, but for another chip, firmware level or product than the report names."""

    check = "chip endorsement"
    kind = Kind.CRYPTOGRAPHY
    meaning = "Report and certificate do not belong together: a firmware level or a chip may be pretended."


class InvalidQuotingEnclave(AttestationError):
    """Intel's quoting enclave does not vouch for the attestation key, or is not Intel's."""

    check = "quoting enclave"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The key that signed the quote was not made by Intel's quoting enclave."


class EventLogMismatch(AttestationError):
    """The event log does not lead to the registers that the hardware signed."""

    check = "event log"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The list of what was started was changed: only the signed registers count."


class InvalidTpmQuote(AttestationError):
    """The quote of Azure's virtual TPM is not signed by the key in the report, or not over these registers."""

    check = "virtual TPM quote"
    kind = Kind.CRYPTOGRAPHY
    meaning = "What the guest system started with is not proved."


class DeviceIdentityMismatch(AttestationError):
    """The firmware that a GPU or switch reports is not the one that its certificate was issued for."""

    check = "device firmware identity"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The device runs other early firmware than the one its key belongs to, or the report is another device's."


class InvalidReferenceValues(AttestationError):
    """A reference integrity manifest is not signed by the vendor, or was edited after signing."""

    check = "reference manifest signature"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The list of good firmware values is not the vendor's."


class InvalidCollateral(AttestationError):
    """TCB information, a revocation list or an OCSP answer is not signed by the vendor."""

    check = "collateral signature"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The vendor did not say this about its firmware or its keys: fetch the collateral again."


class BindingMismatch(AttestationError):
    """The report does not commit to this nonce and these keys: it is replayed, or speaks for another enclave."""

    check = "binding to nonce and keys"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The evidence is old, or belongs to another conversation or another enclave: a replay or a relay."


class DeviceNonceMismatch(AttestationError):
    """A GPU or switch answered another challenge than the one derived for it."""

    check = "device nonce"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The device evidence is old or was made for another machine."


class InvalidReceiptSignature(AttestationError):
    """The receipt was not signed by the receipt key of the evidence."""

    check = "receipt signature"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The receipt was changed after signing, or another enclave made it, or none. The answer has no receipt."


class ReceiptEvidenceMismatch(AttestationError):
    """The receipt rests on another evidence document than the one that is shown with it."""

    check = "receipt's evidence"
    kind = Kind.CRYPTOGRAPHY
    meaning = (
        "The evidence here is not what the answer was asked for under. Look for the evidence that the receipt names."
    )


class ReceiptCodeMismatch(AttestationError):
    """The receipt names another release or measurement than the evidence."""

    check = "receipt's code"
    kind = Kind.CRYPTOGRAPHY
    meaning = "The receipt speaks of other code than the code that was proved to run there."


class ReceiptContentMismatch(AttestationError):
    """The request, the answer or the consents shown with a receipt are not the ones that it names."""

    check = "receipt's content"
    kind = Kind.CRYPTOGRAPHY
    meaning = (
        "What is shown beside the receipt is not what the enclave signed for: it was exchanged, changed or left out."
    )


# --- whether we accept it --------------------------------------------------------------------------------------------


class CertificateOutOfDate(AttestationError):
    """A certificate is not valid at the time of the appraisal."""

    check = "certificate validity"
    kind = Kind.POLICY
    meaning = "The vendor no longer (or not yet) vouches with this certificate at this time."


class MissingCollateral(AttestationError):
    """The vendor's word on firmware or revocation is not there, so that it cannot be known good."""

    check = "collateral"
    kind = Kind.POLICY
    meaning = "Known bad firmware or withdrawn keys could not be ruled out."


class StaleCollateral(AttestationError):
    """The vendor's word on firmware or revocation is too old, or from the future."""

    check = "collateral age"
    kind = Kind.POLICY
    meaning = "What the vendor said is out of date: newer warnings may exist. Fetch the collateral again."


class Revoked(AttestationError):
    """The vendor has withdrawn a key of the chain."""

    check = "revocation"
    kind = Kind.POLICY
    meaning = "The vendor says that this key must not be trusted any more."


class UnsignedBytes(AttestationError):
    """Something other than zeros follows the end that a quote declares."""

    check = "padding"
    kind = Kind.POLICY
    meaning = "Somebody appended bytes that nobody signed. The quote itself is not touched by them."


class UnacceptedProduct(AttestationError):
    """The processor or device is of a product that the policy does not accept."""

    check = "product"
    kind = Kind.POLICY
    meaning = "Attestation of this product is known to be forgeable, or the policy was not made for it."


class DebugEnabled(AttestationError):
    """The machine may be inspected by its host: debugging is on."""

    check = "debug off"
    kind = Kind.POLICY
    meaning = "The operator can read the memory of this machine."


class UnacceptedGuestPolicy(AttestationError):
    """The guest was started under rules that weaken its isolation, or that this verifier does not know."""

    check = "guest policy"
    kind = Kind.POLICY
    meaning = "The machine was started with permissions that confidential machines should not have."


class UnacceptedTcb(AttestationError):
    """The firmware is below the floor, or the vendor calls it out of date."""

    check = "firmware level"
    kind = Kind.POLICY
    meaning = "The firmware has known faults. The operator has to update it."


class UnacceptedChip(AttestationError):
    """The processor or device is not on the policy's list of chips."""

    check = "chip allow-list"
    kind = Kind.POLICY
    meaning = "It is a genuine machine, but not one of those that you agreed on."


class SecureBootOff(AttestationError):
    """The machine started without secure boot."""

    check = "secure boot"
    kind = Kind.POLICY
    meaning = "What the machine started could have been replaced."


class UnacceptedMeasurement(AttestationError):
    """The enclave runs code that is none of the policy's accepted releases."""

    check = "measurement"
    kind = Kind.POLICY
    meaning = "What runs in the machine is not a release that you accept."


class DuplicateDevice(AttestationError):
    """One device was presented as several."""

    check = "distinct devices"
    kind = Kind.POLICY
    meaning = "Some of the devices that the model runs on were not shown."


class UnexpectedDeviceCount(AttestationError):
    """There are more or fewer devices than the policy expects."""

    check = "device count"
    kind = Kind.POLICY
    meaning = "A device may be hidden from attestation."


class UnsafeDeviceState(AttestationError):
    """A GPU is not in confidential mode, or its developer tools are on."""

    check = "device state"
    kind = Kind.POLICY
    meaning = "The operator may read the memory of the GPU, or what travels to it."


class UnacceptedDeviceFirmware(AttestationError):
    """What a GPU or switch runs differs from the vendor's reference values, or from the policy's versions."""

    check = "device measurements"
    kind = Kind.POLICY
    meaning = "The device runs firmware that the vendor did not publish, or that the policy does not accept."


class SimulatedHardwareRefused(AttestationError):
    """The evidence comes from the simulated TEE, and the policy does not carry the unsafe exception for it."""

    check = "genuine hardware"
    kind = Kind.CRYPTOGRAPHY
    meaning = "There is no confidential hardware: whoever runs the simulation can read everything in it."


class PolicyExpired(AttestationError):
    """The policy is used outside the time that it was made for."""

    check = "policy validity"
    kind = Kind.POLICY
    meaning = "Get the present policy from whoever signs it."


class ReceiptTooEarly(AttestationError):
    """The receipt is dated before the evidence that it names."""

    check = "receipt time"
    kind = Kind.POLICY
    meaning = (
        "A clock was wrong, or a date was made up: an answer cannot be older than the evidence it was asked under."
    )
