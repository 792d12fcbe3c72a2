"""Why no evidence was collected: one class for each cause, with what to do about it.

An enclave without evidence is not trusted by anybody, so nothing here is softened into evidence that says less. The
texts name the cause and the system's name of an error number, never the bytes that a device or a host gave.
"""

from typing import ClassVar


class CollectionError(Exception):
    """There is no evidence. ``remedy`` says what to do; it is the second sentence of the text."""

    remedy: ClassVar[str]

    def __str__(self) -> str:
        """The cause, then the remedy."""
        return f"{super().__str__()}. {self.remedy}"


# --- the attester ----------------------------------------------------------------------------------------------------


class AttesterBusy(CollectionError):
    """Another attestation holds the hardware, and did not end in time."""

    remedy = "Ask again later. If this stays, a driver hangs: see the kernel log, and restart the machine."


class CollectionTimedOut(CollectionError):
    """The hardware did not answer in time. The call goes on in the kernel, and cannot be taken back."""

    remedy = "A driver or the host is slow or hangs: see the kernel log, and restart the machine if this stays."


# --- the processor, through Linux ------------------------------------------------------------------------------------


class NoTee(CollectionError):
    """Linux offers no reports here: this is no confidential virtual machine, or its driver is not there."""

    remedy = (
        "Start this in a SEV-SNP or TDX virtual machine with Linux 6.7 or later, load sev-guest or tdx-guest, and "
        "mount configfs on /sys/kernel/config; for development without hardware use the simulated TEE."
    )


class UnsupportedTee(CollectionError):
    """There is a TEE, but of a kind that the evidence document does not know."""

    remedy = "Use a SEV-SNP or TDX virtual machine: verifiers know no other."


class AccessDenied(CollectionError):
    """The system does not let this process ask for a report, or read what belongs to it."""

    remedy = "Run as root, or give this process write access to configfs and read access to the ACPI tables."


class ProviderRefused(CollectionError):
    """The kernel's driver or the firmware refused to make a report."""

    remedy = (
        "See the kernel log. After a failed exchange with AMD's firmware Linux stops using its key to it: then only a "
        "restart of the virtual machine helps. On TDX the host's quote service has to run."
    )


class ReportRaced(CollectionError):
    """Somebody else wrote into our report directory, each time."""

    remedy = "Stop the other program that writes below tsm/report: no report could be tied to our request."


class OversizedAnswer(CollectionError):
    """An answer is larger than evidence may be."""

    remedy = (
        "The kernel, its driver or the host is of an unknown version, or misbehaves: no verifier would accept this."
    )


# --- certificates of the processor -----------------------------------------------------------------------------------


class MalformedCertificateTable(CollectionError):
    """The certificates that the host gave with the report are not in the agreed form."""

    remedy = "The operator of the host has to load its SEV-SNP certificates anew, or none at all."


class UnusableCertificate(CollectionError):
    """A file of the certificate folder cannot be read, or holds no certificate."""

    remedy = "Put AMD's certificates into the folder as vcek, vlek, ask, ark with the ending .der or .pem."


# --- GPUs ------------------------------------------------------------------------------------------------------------


class NvmlMissing(CollectionError):
    """NVIDIA's management library, or the Python package for it, is not here."""

    remedy = "Install NVIDIA's driver and the package nvidia-ml-py, or collect no devices on a machine without GPUs."


class NvmlFailed(CollectionError):
    """NVIDIA's driver refused a call."""

    remedy = (
        "Check with nvidia-smi conf-compute that the GPUs are in confidential mode, and see the kernel log. When an "
        "attestation fails in the GPU, the driver takes it out of service: then reset it, or restart the machine."
    )


class NoGpu(CollectionError):
    """GPUs are to be attested, and there are none."""

    remedy = "Give the virtual machine its GPUs, or collect no devices: then no verifier that expects GPUs accepts it."


class UnexpectedDeviceAnswer(CollectionError):
    """A GPU's report or chain of certificates is not in the form that verifiers know, or answers another challenge."""

    remedy = "Use a driver and firmware with SPDM 1.1 measurements (Hopper or Blackwell)."


# --- dstack ----------------------------------------------------------------------------------------------------------


class DstackUnreachable(CollectionError):
    """dstack's guest agent does not listen, or did not answer in time."""

    remedy = "Start this in a dstack machine with /var/run/dstack.sock mounted into the container."


class DstackFailed(CollectionError):
    """dstack's guest agent answered, but not with a quote that could be used."""

    remedy = "See the log of dstack's guest agent. On SEV-SNP it gives no quote: collect through configfs there."
