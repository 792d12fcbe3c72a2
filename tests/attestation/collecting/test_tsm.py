import errno
from pathlib import Path
from ssl import PEM_cert_to_DER_cert

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, sampled_from

from attestation.collecting.certificates import CertificateFolder
from attestation.collecting.errors import (
    AccessDenied,
    CollectionError,
    MalformedCertificateTable,
    NoTee,
    OversizedAnswer,
    ProviderRefused,
    ReportRaced,
    UnsupportedTee,
)
from attestation.collecting.tsm import (
    ATTEMPTS,
    FILL_KEPT,
    MAX_AUXBLOB,
    MAX_OUTBLOB,
    AttributeFolder,
    TsmCollector,
    refusal,
    shortened,
)
from attestation.document import CpuEvidence, CpuType
from tests.attestation.collecting.kernel import Directory, Kernel, failure
from tests.attestation.collecting.samples import GUIDS, der, table
from tests.attestation.vectors import read as vector

REPORT_DATA = bytes(range(64))
GENOA = "amd_sev_snp/oak_genoa_v5"
SPR = "intel_tdx/go_tdx_guest_gcp_ccel"


def snp(report_data: bytes) -> tuple[bytes, bytes]:
    """A report that a VCEK signed, without certificates."""
    return bytes(0x50) + report_data + bytes(1184 - 0x90), b""


def tdx(kernel_report: bytes = b"a quote") -> Kernel:
    return Kernel(lambda _: (kernel_report, b""), b"tdx_guest\n", floor=None, hidden=frozenset({"auxblob"}))


def collector(kernel: Kernel, **options: object) -> TsmCollector:
    return TsmCollector(create=kernel.create, **{"event_log": None, **options})  # type: ignore[arg-type]


# --- recorded machines -----------------------------------------------------------------------------------------------


def test_a_recorded_snp_report_comes_with_the_certificates_of_the_host() -> None:
    report, leaf = vector(f"{GENOA}/snp_report.bin"), vector(f"{GENOA}/vcek.der")
    chain = vector("amd_sev_snp/roots/ask_ark_genoa.pem").split(b"-----END CERTIFICATE-----\n")
    ask, ark = (text + b"-----END CERTIFICATE-----\n" for text in chain[:2])
    given_table = table([(GUIDS["ark"], ark), (GUIDS["ask"], ask), (GUIDS["vcek"], leaf), (GUIDS["crl"], b"a list")])
    kernel = Kernel(lambda _: (report, given_table))
    evidence = collector(kernel).collect(report[0x50:0x90])
    assert evidence.type is CpuType.SEV_SNP
    assert evidence.report == report
    assert evidence.certificates[0] == leaf
    assert evidence.certificates[1:] == (PEM_cert_to_DER_cert(ask.decode()), PEM_cert_to_DER_cert(ark.decode()))
    assert evidence.event_log == b""


def test_a_recorded_tdx_quote_comes_with_the_event_log(tmp_path: Path) -> None:
    quote, log = vector(f"{SPR}/cos-113-tdx-quote.dat"), vector(f"{SPR}/ccel_data.dat")
    (tmp_path / "CCEL").write_bytes(log)
    evidence = collector(tdx(quote), event_log=tmp_path / "CCEL").collect(vector(f"{SPR}/nonce.dat"))
    assert evidence.type is CpuType.TDX
    assert evidence.report == quote
    assert evidence.certificates == ()
    assert log.startswith(evidence.event_log)
    assert evidence.event_log.rstrip(b"\xff").endswith(b"Exit Boot Services Returned with Success")
    assert len(evidence.event_log) < 20_000 < len(log)


# --- the request -----------------------------------------------------------------------------------------------------


def test_the_report_is_over_the_report_data_and_the_directory_is_gone() -> None:
    kernel = Kernel(snp)
    assert collector(kernel).collect(REPORT_DATA) == CpuEvidence(CpuType.SEV_SNP, snp(REPORT_DATA)[0])
    assert (kernel.made, kernel.directories) == (1, [])


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_size_is_a_mistake_of_the_caller(size: int) -> None:
    kernel = Kernel(snp)
    with pytest.raises(ValueError, match="64"):
        collector(kernel).collect(bytes(size))
    assert kernel.made == 0


def test_the_most_privileged_level_that_the_kernel_has_is_asked_for() -> None:
    levels = []

    def note(directory: Directory, name: str) -> None:
        if name == "outblob":
            levels.append(directory.level)

    for floor in (0, 2):
        collector(Kernel(snp, floor=floor, interfere=note)).collect(REPORT_DATA)
    assert levels == [0, 2]


def test_a_kernel_without_privilege_levels_and_certificates_is_asked_without() -> None:
    assert collector(tdx()).collect(REPORT_DATA) == CpuEvidence(CpuType.TDX, b"a quote")


def test_a_tee_of_another_kind_is_refused_before_a_report_is_made() -> None:
    kernel = Kernel(snp, provider=b"arm_cca_guest\n")
    with pytest.raises(UnsupportedTee):
        collector(kernel).collect(REPORT_DATA)
    assert kernel.directories == []


@pytest.mark.parametrize(("name", "limit"), [("outblob", MAX_OUTBLOB), ("auxblob", MAX_AUXBLOB)])
def test_an_answer_that_is_too_large_is_refused(name: str, limit: int) -> None:
    large = bytes(limit + 1)
    kernel = Kernel(lambda _: (large, b"") if name == "outblob" else (b"a report", large))
    with pytest.raises(OversizedAnswer, match=name):
        collector(kernel).collect(REPORT_DATA)
    assert kernel.directories == []


def test_the_largest_answer_is_taken() -> None:
    kernel = Kernel(lambda _: (bytes(MAX_OUTBLOB), bytes(MAX_AUXBLOB)))
    assert len(collector(kernel).collect(REPORT_DATA).report) == MAX_OUTBLOB


def test_an_empty_report_is_none() -> None:
    with pytest.raises(ProviderRefused):
        collector(Kernel(lambda _: (b"", b""))).collect(REPORT_DATA)


def test_a_count_that_is_no_number_is_refused() -> None:
    class Confused(Directory):
        def read(self, name: str, limit: int) -> bytes:
            return b"many\n" if name == "generation" else super().read(name, limit)

    kernel = Kernel(snp)
    directory = Confused(kernel)
    kernel.directories.append(directory)
    with pytest.raises(ProviderRefused):
        TsmCollector(create=lambda _: directory).collect(REPORT_DATA)


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.ENXIO, NoTee),
        (errno.ENOENT, NoTee),
        (errno.EACCES, AccessDenied),
        (errno.EROFS, AccessDenied),
        (errno.EFBIG, OversizedAnswer),
        (errno.EIO, ProviderRefused),
        (errno.EINVAL, ProviderRefused),
        (errno.ETIMEDOUT, ProviderRefused),
    ],
)
def test_an_error_of_the_system_becomes_one_that_names_it(number: int, meaning: type[CollectionError]) -> None:
    def broken(_directory: Directory, name: str) -> None:
        if name == "outblob":
            raise failure(number)

    kernel = Kernel(snp, interfere=broken)
    with pytest.raises(meaning, match=errno.errorcode[number]):
        collector(kernel).collect(REPORT_DATA)
    assert (kernel.made, kernel.directories) == (1, [])


@given(integers(0, 4000))
def test_any_error_of_the_system_has_a_meaning(number: int) -> None:
    assert isinstance(refusal(OSError(number, "x")), CollectionError)
    assert isinstance(refusal(OSError()), CollectionError)


# --- races -----------------------------------------------------------------------------------------------------------


def other_writer(
    times: int, before: str, attribute: str = "inblob", value: bytes = bytes(64)
) -> tuple[Kernel, list[str]]:
    """Somebody writes into the first ``times`` directories, just before ``before`` is read."""
    happened: list[str] = []

    def interfere(directory: Directory, name: str) -> None:
        if name == before and len(happened) < times and directory.inblob:
            happened.append(name)
            directory.write(attribute, value)

    return Kernel(snp, interfere=interfere), happened


@pytest.mark.parametrize("before", ["outblob", "auxblob", "generation"])
@pytest.mark.parametrize(("attribute", "value"), [("inblob", bytes(64)), ("privlevel", b"3")])
def test_a_write_of_somebody_else_is_noticed_and_the_request_made_again(
    before: str, attribute: str, value: bytes
) -> None:
    kernel, happened = other_writer(2, before, attribute, value)
    assert collector(kernel).collect(REPORT_DATA).report == snp(REPORT_DATA)[0]
    assert len(happened) == 2
    assert (kernel.made, kernel.directories) == (3, [])


def test_a_write_of_somebody_else_that_changes_nothing_is_noticed_too() -> None:
    kernel, happened = other_writer(1, "outblob", "inblob", REPORT_DATA)
    collector(kernel).collect(REPORT_DATA)
    assert (len(happened), kernel.made) == (1, 2)


def test_a_race_without_end_is_given_up() -> None:
    kernel, _ = other_writer(1000, "outblob")
    with pytest.raises(ReportRaced, match=str(ATTEMPTS)):
        collector(kernel).collect(REPORT_DATA)
    assert (kernel.made, kernel.directories) == (ATTEMPTS, [])


@pytest.mark.parametrize("name", ["outblob", "auxblob"])
def test_a_report_that_is_not_there_yet_is_asked_for_again(name: str) -> None:
    refused: list[str] = []

    def not_yet(_directory: Directory, attribute: str) -> None:
        if attribute == name and not refused:
            refused.append(attribute)
            raise failure(errno.EWOULDBLOCK)

    kernel = Kernel(snp, interfere=not_yet)
    assert collector(kernel).collect(REPORT_DATA).report == snp(REPORT_DATA)[0]
    assert (kernel.made, kernel.directories) == (2, [])


def test_a_request_that_the_kernel_lost_without_a_word_is_noticed() -> None:
    """The kernel hands a binary attribute over when its file is closed, and tells nobody if that fails."""

    class Deaf(Directory):
        def write(self, name: str, value: bytes) -> None:
            super().write(name, value)
            if name == "inblob":
                self.generation -= 1

    kernel = Kernel(snp)

    def create(_root: Path) -> Directory:
        kernel.directories.append(directory := Deaf(kernel))
        return directory

    with pytest.raises(ReportRaced):
        TsmCollector(create=create).collect(REPORT_DATA)
    assert kernel.directories == []


def test_evidence_is_not_lost_because_a_directory_cannot_be_removed() -> None:
    class Sticky(Directory):
        def remove(self) -> None:
            raise failure(errno.EBUSY)

    assert TsmCollector(create=lambda _: Sticky(Kernel(snp))).collect(REPORT_DATA).report == snp(REPORT_DATA)[0]


# --- certificates ----------------------------------------------------------------------------------------------------


def with_table(host_table: bytes) -> Kernel:
    return Kernel(lambda report_data: (snp(report_data)[0], host_table))


def test_what_the_host_does_not_hand_over_comes_from_the_folder(tmp_path: Path) -> None:
    for name in ("vcek", "ask", "ark"):
        (tmp_path / f"{name}.der").write_bytes(der(f"{name} of the folder".encode()))
    folder = CertificateFolder(tmp_path)
    leaf, ask, ark = (der(f"{name} of the folder".encode()) for name in ("vcek", "ask", "ark"))
    collected = [
        collector(with_table(host_table), certificates=folder).collect(REPORT_DATA).certificates
        for host_table in (b"", table([(GUIDS["vcek"], der(b"the host's"))]))
    ]
    assert collected == [(leaf, ask, ark), (der(b"the host's"), ask, ark)]


def test_the_folder_is_not_needed_if_the_host_hands_over_all(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(b"broken")
    given_table = table([(GUIDS[name], der(name.encode())) for name in ("vcek", "ask", "ark")])
    evidence = collector(with_table(given_table), certificates=CertificateFolder(tmp_path)).collect(REPORT_DATA)
    assert evidence.certificates == (der(b"vcek"), der(b"ask"), der(b"ark"))


def test_without_certificates_there_is_still_a_report() -> None:
    assert collector(Kernel(snp, hidden=frozenset({"auxblob"}))).collect(REPORT_DATA).certificates == ()


def test_a_broken_table_is_not_passed_over() -> None:
    with pytest.raises(MalformedCertificateTable):
        collector(with_table(b"\x01" * 100)).collect(REPORT_DATA)


# --- the event log ---------------------------------------------------------------------------------------------------


def test_a_machine_without_an_event_log_has_a_quote_alone(tmp_path: Path) -> None:
    assert collector(tdx(), event_log=tmp_path / "missing").collect(REPORT_DATA).event_log == b""


def test_an_event_log_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(CollectionError):
        collector(tdx(), event_log=tmp_path).collect(REPORT_DATA)


def test_an_event_log_without_end_is_refused() -> None:
    with pytest.raises(OversizedAnswer):
        collector(tdx(), event_log=Path("/dev/zero")).collect(REPORT_DATA)


def test_an_snp_report_needs_no_event_log(tmp_path: Path) -> None:
    assert collector(Kernel(snp), event_log=tmp_path).collect(REPORT_DATA).event_log == b""


@given(binary(max_size=100), sampled_from([b"", b"\xff", b"\xff" * 4]), integers(0, 100))
def test_a_shortened_log_keeps_its_events_and_an_end(events: bytes, last: bytes, fill: int) -> None:
    log = events.rstrip(b"\xff") + last + b"\xff" * fill
    short = shortened(log)
    assert log.startswith(short)
    assert len(short) >= min(len(log), len(events.rstrip(b"\xff") + last))
    assert len(short) <= len(events) + FILL_KEPT


# --- real directories ------------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_a_name_of_its_own_and_removed(tmp_path: Path) -> None:
    first, second = AttributeFolder.create(tmp_path), AttributeFolder.create(tmp_path)
    assert first.path != second.path
    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path])
    first.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_attributes_are_files(tmp_path: Path) -> None:
    folder = AttributeFolder.create(tmp_path)
    (folder.path / "inblob").touch()
    folder.write("inblob", REPORT_DATA)
    assert folder.read("inblob", 64) == REPORT_DATA
    with pytest.raises(OversizedAnswer):
        folder.read("inblob", 63)


def test_an_attribute_that_the_kernel_does_not_show_is_not_made(tmp_path: Path) -> None:
    folder = AttributeFolder.create(tmp_path)
    with pytest.raises(FileNotFoundError):
        folder.write("privlevel", b"0")
    with pytest.raises(FileNotFoundError):
        folder.read("privlevel", 10)
    assert list(folder.path.iterdir()) == []


def test_a_value_that_is_taken_in_part_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        AttributeFolder(Path("/dev")).write("full", REPORT_DATA)


def test_a_machine_without_configfs_has_no_tee(tmp_path: Path) -> None:
    with pytest.raises(NoTee, match="simulated TEE"):
        TsmCollector(root=tmp_path / "missing").collect(REPORT_DATA)


def test_a_directory_that_is_not_the_kernels_has_no_tee_and_stays_clean(tmp_path: Path) -> None:
    with pytest.raises(NoTee):
        TsmCollector(root=tmp_path).collect(REPORT_DATA)
    assert list(tmp_path.iterdir()) == []
