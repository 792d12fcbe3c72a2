"""Reports of SEV-SNP and TDX through Linux: the kernel's configfs-tsm, from version 6.7 on.

A report is asked for in a directory of our own below ``tsm/report``: what is written into its attributes is the
request, what is read from them the answer. Nobody else has business in that directory, but nothing keeps others out:
the kernel counts the writes, and a count that is not ours means that the answer may not be either.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report, and drivers/virt/coco/guest/report.c.
"""

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from attestation.collecting.certificates import CertificateFolder, endorsements, parse_certificate_table, signers
from attestation.collecting.errors import (
    AccessDenied,
    CollectionError,
    NoTee,
    OversizedAnswer,
    ProviderRefused,
    ReportRaced,
    UnsupportedTee,
)
from attestation.collecting.files import read_bounded
from attestation.document import CpuEvidence, CpuType
from attestation.limits import MAX_EVENT_LOG

ROOT = Path("/sys/kernel/config/tsm/report")
EVENT_LOG = Path("/sys/firmware/acpi/tables/data/CCEL")  # the UEFI event log of a TDX guest, as firmware left it
ATTEMPTS = 5
MAX_OUTBLOB = 32 * 1024  # bytes; newer kernels allow more for a kind of TDX quote that verifiers here do not know
MAX_AUXBLOB = 64 * 1024  # bytes; Linux takes 16 KiB of certificates from a host
MAX_TEXT = 4096  # bytes of an attribute that is text: what configfs itself allows
REPORT_DATA = 64  # bytes, both for SEV-SNP and for TDX
FILL_KEPT = 16  # bytes of 0xff left at the end of an event log

_TYPES = {"sev_guest": CpuType.SEV_SNP, "tdx_guest": CpuType.TDX}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Attributes(Protocol):
    """One report directory. All methods raise ``OSError`` as the system does."""

    def read(self, name: str, limit: int) -> bytes:
        """The attribute; ``OversizedAnswer`` if it has more than ``limit`` bytes."""
        ...

    def write(self, name: str, value: bytes) -> None:
        """Set the attribute, at once."""
        ...

    def remove(self) -> None:
        """End the request; the kernel takes the attributes away with the directory."""
        ...


@dataclass(frozen=True, slots=True)
class AttributeFolder:
    """A real report directory."""

    path: Path

    @classmethod
    def create(cls, root: Path) -> "AttributeFolder":
        """A new one below ``root``, with a name that nobody guesses or shares."""
        path = root / f"subrosa-{secrets.token_hex(16)}"
        path.mkdir()
        return cls(path)

    def read(self, name: str, limit: int) -> bytes:
        """See :class:`Attributes`."""
        return read_bounded(self.path / name, limit)

    def write(self, name: str, value: bytes) -> None:
        """See :class:`Attributes`."""
        # Without O_CREAT: a missing attribute is an error. In one call, because each is taken for a whole value.
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, value)
        finally:
            os.close(descriptor)
        if written != len(value):
            raise OSError(errno.EIO, "an attribute was written in part")

    def remove(self) -> None:
        """See :class:`Attributes`."""
        self.path.rmdir()


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the kernel answered: whose report it is, the report, and the host's certificate table (SEV-SNP)."""

    type: CpuType
    report: bytes = field(repr=False)
    table: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TsmCollector:
    """Collects the processor's report through ``root``.

    Certificates of a SEV-SNP processor come from the host, and what it does not hand over from ``certificates``;
    without either the evidence has none, and verifiers fetch them. ``event_log`` explains a TDX machine's registers;
    without the file they stand for themselves. The calls have no deadline of their own: the kernel's drivers do, and so
    does the attester.
    """

    root: Path = ROOT
    certificates: CertificateFolder | None = None
    event_log: Path | None = EVENT_LOG
    attempts: int = ATTEMPTS
    create: Callable[[Path], Attributes] = AttributeFolder.create

    def collect(self, report_data: bytes) -> CpuEvidence:
        """A new report over ``report_data``, 64 bytes.

        Raises:
            CollectionError: there is none; the subclass says why.
            ValueError: ``report_data`` is not 64 bytes.
        """
        if len(report_data) != REPORT_DATA:
            raise ValueError("report data is 64 bytes")
        answer = self._report(report_data)
        if answer.type is CpuType.TDX:
            return CpuEvidence(CpuType.TDX, answer.report, event_log=self._event_log())
        return CpuEvidence(CpuType.SEV_SNP, answer.report, certificates=self._certificates(answer))

    def _report(self, report_data: bytes) -> TsmReport:
        for _ in range(self.attempts):
            try:
                return self._attempt(report_data)
            except ReportRaced:
                continue  # in another directory: whoever knew this one does not know the next
            except OSError as error:
                raise refusal(error) from None
        raise ReportRaced(f"somebody else wrote into the report directory, {self.attempts} times")

    def _attempt(self, report_data: bytes) -> TsmReport:
        attributes = self.create(self.root)
        try:
            return request_report(attributes, report_data)
        finally:
            with suppress(OSError):  # evidence is not worse for a directory that stays behind, or is already gone
                attributes.remove()

    def _certificates(self, answer: TsmReport) -> tuple[bytes, ...]:
        given = parse_certificate_table(answer.table)
        if self.certificates is not None and not given.keys() >= set(signers(answer.report)):
            given = self.certificates.read() | given
        return endorsements(answer.report, given)

    def _event_log(self) -> bytes:
        if self.event_log is None:
            return b""
        try:
            return shortened(read_bounded(self.event_log, MAX_EVENT_LOG))
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise refusal(error) from None


def request_report(attributes: Attributes, report_data: bytes) -> TsmReport:
    """Make one request in a fresh directory, and read the answer.

    The privilege level asked for is the lowest number that the kernel names, ``privlevel_floor``: the most privileged
    level that it may speak for, 0 unless another layer (an SVSM) runs beneath it. A fixed 0 is refused there, and what
    holds if nothing is written is not documented. TDX has no such attribute.

    Raises:
        ReportRaced: the number of writes is not ours, or the kernel made no report of it yet.
        UnsupportedTee, OversizedAnswer: see there.
        OSError: as the kernel says.
    """
    kind = cpu_type(attributes.read("provider", MAX_TEXT))
    expected = _generation(attributes)
    if (floor := _optional(attributes, "privlevel_floor", MAX_TEXT)) is not None:
        attributes.write("privlevel", floor.strip())
        expected += 1
    # The kernel takes the value when the file is closed and then tells no errors: only the count says that it arrived.
    attributes.write("inblob", report_data)
    expected += 1
    try:
        report = attributes.read("outblob", MAX_OUTBLOB)
        table = _optional(attributes, "auxblob", MAX_AUXBLOB) or b""
    except BlockingIOError:
        raise ReportRaced("the report changed while it was read") from None
    if _generation(attributes) != expected:
        raise ReportRaced("somebody else wrote into the report directory")
    if not report:
        raise ProviderRefused("the kernel gave an empty report")
    return TsmReport(kind, report, table)


def cpu_type(provider: bytes) -> CpuType:
    """Whose report it is going to be.

    Raises:
        UnsupportedTee: neither SEV-SNP's nor TDX's.
    """
    name = provider.decode("ascii", "replace").strip()
    if name not in _TYPES:
        raise UnsupportedTee("the kernel offers reports of a TEE that is neither SEV-SNP nor TDX")
    return _TYPES[name]


def refusal(error: OSError) -> CollectionError:
    """What an error of the system means here."""
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    if error.errno in _ABSENT:
        return NoTee(f"Linux offers no attestation reports here ({name})")
    if error.errno in _DENIED:
        return AccessDenied(f"the system denies access ({name})")
    if error.errno == errno.EFBIG:
        return OversizedAnswer(f"the report is larger than the kernel allows ({name})")
    return ProviderRefused(f"the kernel made no report ({name})")


def shortened(log: bytes) -> bytes:
    """The log without most of the 0xff that fill its memory area behind the last event.

    Some are kept, because an event may itself end with them (a separator is four, TCG PC Client Platform Firmware
    Profile, section 10.4.1), and because four in place of a register's number mark the end.
    """
    return log[: len(log.rstrip(b"\xff")) + FILL_KEPT]


def _generation(attributes: Attributes) -> int:
    try:
        return int(attributes.read("generation", MAX_TEXT))
    except ValueError:
        raise ProviderRefused("the kernel's count of writes is not a number") from None


def _optional(attributes: Attributes, name: str, limit: int) -> bytes | None:
    """An attribute that not every kernel or TEE shows."""
    try:
        return attributes.read(name, limit)
    except FileNotFoundError:
        return None
