"""What is fuzzed: for each parser a function of bytes, the errors that it may raise, and seeds to begin with.

Seeds come from the authorities, so that no outside folder is needed; names of appraisals begin with ``appraise-``. Those
walk through every check of a whole machine of which one part is exchanged, and may raise nothing at all: a step that
fails has to become a refusal. Names that end with ``-signed`` sign the bytes that they are given, as a vendor would,
because what stands behind a signature is otherwise never reached.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import ocsp
from lxml import etree

from attestation import Appraisal, limits
from attestation.appraisal.policy_file import (
    TEMPLATE,
    PolicyKey,
    PolicySigner,
    parse_policy,
    parse_policy_text,
    parse_policy_unsigned,
)
from attestation.bundle import Bundle
from attestation.collateral import Collateral, IntelCollateral
from attestation.collecting import certificates as collected
from attestation.collecting.dstack import MAX_ANSWER, tdx_evidence
from attestation.collecting.errors import DstackFailed, MalformedCertificateTable
from attestation.collecting.tsm import MAX_AUXBLOB
from attestation.document import EvidenceDocument
from attestation.encoding import decode, encode, to_base64
from attestation.errors import (
    AttestationError,
    InvalidCollateral,
    InvalidReferenceValues,
    MalformedCollateral,
    MalformedEvidence,
    MalformedPolicy,
    Revoked,
    UnsupportedEvidence,
)
from attestation.fetching import forms
from attestation.fetching import nvidia as fetched_nvidia
from attestation.fetching.amd import fetch_amd_issuers
from attestation.fetching.cache import MAX_FILE, Kept
from attestation.fetching.errors import FetchError
from attestation.fetching.gather import gather
from attestation.fetching.intel import MAX_CHAIN, MAX_ENVELOPE
from attestation.fetching.transport import Request, Response
from attestation.parsing.azure import AttestedQuote, HclReport
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.event_log import parse_event_log, replay
from attestation.parsing.intel_collateral import CollateralDates
from attestation.parsing.nvidia import DeviceReport
from attestation.parsing.rim import Manifest, parse_manifest
from attestation.parsing.snp import SnpReport
from attestation.parsing.tdx import Quote, TdReport
from attestation.simulated import SimulatedReport
from attestation.verification.chain import ECDSA_SHA384
from attestation.verification.revocation import OcspAnswers, verify_not_listed
from attestation.verification.rim import SignedManifest
from tests.attestation import machines
from tests.attestation.authority import amd, azure, eventlog, intel, nvidia
from tests.attestation.authority.nvidia import der
from tests.attestation.machines import Machine

T = TypeVar("T")
Function = Callable[[bytes], object]
Errors = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One function under test. ``limit`` is the largest input that is worth trying, in bytes."""

    function: Function
    seeds: tuple[bytes, ...] = field(repr=False)
    limit: int
    errors: Errors

    def __call__(self, data: bytes) -> bool:
        """Whether ``data`` is accepted; whatever is raised but the allowed errors comes through."""
        try:
            self.function(data)
        except self.errors:
            return False
        return True


TARGETS: Final[dict[str, Callable[[], Target]]] = {}
"""By name; each is built when it is asked for, and once, because keys are slow to make."""

_EVIDENCE: Errors = (MalformedEvidence, UnsupportedEvidence)
_COLLATERAL: Errors = (MalformedCollateral,)
_NOTHING: Errors = ()


def _target(
    name: str, *, limit: int, errors: Errors
) -> Callable[[Callable[[], tuple[Function, list[bytes]]]], Callable[[], tuple[Function, list[bytes]]]]:
    def register(make: Callable[[], tuple[Function, list[bytes]]]) -> Callable[[], tuple[Function, list[bytes]]]:
        @cache
        def target() -> Target:
            function, seeds = make()
            return Target(function, tuple(seeds), limit, errors)

        assert name not in TARGETS
        TARGETS[name] = target
        return make

    return register


# --- The seeds' machines ---------------------------------------------------------------------------------------------------


@cache
def _snp() -> Machine:
    return machines.snp_machine()


@cache
def _azure() -> Machine:
    return machines.azure_machine()


@cache
def _tdx() -> Machine:
    return machines.tdx_machine()


@cache
def _runtime() -> Machine:
    boot = [event for event in eventlog.BOOT if event.type != eventlog.EV_NO_ACTION]
    return machines.tdx_machine((5, intel.TD15), runtime=eventlog.runtime_log(boot=boot))


@cache
def _gpu() -> Machine:
    return machines.simulated_machine(devices=[machines.gpu()])


@cache
def _switch() -> Machine:
    return machines.simulated_machine(devices=[machines.switch()])


@cache
def _devices() -> Machine:
    return machines.simulated_machine(devices=[machines.gpu(), machines.switch()])


def _intel() -> IntelCollateral:
    collateral = _tdx().collateral.intel
    assert collateral is not None
    return collateral


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def chained(quote: bytes, chain: bytes) -> bytes:
    """``quote`` with another chain of certificates in PEM."""
    parsed = Quote.parse(quote)
    certified = (
        parsed.qe_report + parsed.qe_signature + _counted(parsed.qe_authentication, 2) + b"\5\0" + _counted(chain, 4)
    )
    block = parsed.signature + parsed.attestation_key + b"\6\0" + _counted(certified, 4)
    return parsed.signed + _counted(block, 4)


def _counted(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "little") + data


def _text(data: bytes) -> str:
    """Any text, halves of characters included: command lines hold such."""
    return data.decode("utf-8", "surrogateescape")


# --- Evidence --------------------------------------------------------------------------------------------------------------


@_target("evidence-document", limit=limits.MAX_DOCUMENT, errors=_EVIDENCE)
def _evidence_document() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        assert EvidenceDocument.parse(data).encode() == data

    return function, [machine.document for machine in (_snp(), _azure(), _tdx(), _devices())]


@_target("snp-report", limit=2 * amd.REPORT_SIZE, errors=_EVIDENCE)
def _snp_report() -> tuple[Function, list[bytes]]:
    _, key = machines.vcek()
    return SnpReport.parse, [amd.Report(version=version).sign(key) for version in (2, 3, 5)]


@_target("hcl-report", limit=limits.MAX_REPORT, errors=_EVIDENCE)
def _hcl_report() -> tuple[Function, list[bytes]]:
    return HclReport.parse, [_azure().evidence.cpu.report]


@_target("azure-claims", limit=limits.MAX_REPORT // 2, errors=_EVIDENCE)
def _azure_claims() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> HclReport:
        return HclReport.parse(azure.HclBlob(report=bytes(amd.REPORT_SIZE), claims=data).encode())

    return function, [HclReport.parse(_azure().evidence.cpu.report).claims]


@_target("tpm-quote", limit=limits.MAX_REPORT, errors=_EVIDENCE)
def _tpm_quote() -> tuple[Function, list[bytes]]:
    quote = _azure().evidence.cpu.tpm
    assert quote is not None
    return AttestedQuote.parse, [quote.message]


@_target("quote", limit=limits.MAX_REPORT, errors=_EVIDENCE)
def _quote() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> TdReport:
        quote = Quote.parse(data)
        assert data.startswith(quote.quote)
        return TdReport.parse(quote.body)

    authority = machines.intel_authority()
    return function, [authority.quote(*form, trailing=bytes(8)) for form in intel.FIELDS]


@_target("event-log", limit=limits.MAX_EVENT_LOG, errors=_EVIDENCE)
def _event_log() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        events = parse_event_log(data)
        assert len(events) <= limits.MAX_EVENTS
        for register in range(4):
            replay(events, register)

    runtime = [eventlog.runtime_log(version=version, stripped=version > 1).text.encode() for version in (1, 2)]
    return function, [
        eventlog.event_log(area=2048).data,
        *runtime,
        eventlog.runtime_log(boot=eventlog.BOOT).text.encode(),
    ]


@_target("device-report", limit=limits.MAX_REPORT, errors=_EVIDENCE)
def _device_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        report = DeviceReport.parse(data)
        _ = report.unmeasured, report.fwid, report.driver_rim, report.vbios_rim

    arches: tuple[nvidia.Arch, ...] = ("hopper", "blackwell", "ls10")
    return function, [machines.device(arch, 0).report(bytes(32)) for arch in arches]


@_target("simulated-report", limit=512, errors=_EVIDENCE)
def _simulated_report() -> tuple[Function, list[bytes]]:
    return SimulatedReport.parse, [_devices().evidence.cpu.report]


# --- Certificates and what vendors say -------------------------------------------------------------------------------------


@_target("certificate", limit=limits.MAX_CERTIFICATE, errors=_COLLATERAL)
def _certificate() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        certificate = Certificate.parse(data)
        assert certificate.to_be_signed in data
        _ = certificate.sha256, certificate.public_key

    amd_chain = _snp().evidence.cpu.certificates
    device_chain = _devices().evidence.devices[0].certificates
    return function, [*amd_chain, *device_chain, machines.intel_authority().pck.der]


@_target("pem", limit=2 * limits.MAX_CERTIFICATES * limits.MAX_CERTIFICATE, errors=_COLLATERAL)
def _pem_chain() -> tuple[Function, list[bytes]]:
    authority = machines.intel_authority()
    chain = intel.pem_chain(authority.pck, authority.platform_ca, authority.root_ca)
    return certificates_from_pem, [chain.encode(), machines.device("hopper", 0).pem]


@_target("collateral", limit=limits.MAX_BUNDLE, errors=(*_EVIDENCE, *_COLLATERAL))
def _collateral() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        collateral = Collateral.read(decode(data, limit=limits.MAX_BUNDLE))
        assert Collateral.read(collateral.members()) == collateral

    return function, [encode(machine.collateral.members()) for machine in (_snp(), _tdx(), _devices())]


@_target("intel-statement-dates", limit=limits.MAX_TCB_INFO, errors=_COLLATERAL)
def _intel_statement_dates() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> CollateralDates:
        return CollateralDates.parse(replace(_intel(), tcb_info=_text(data)))

    return function, [_intel().tcb_info.encode(), _intel().qe_identity.encode()]


@_target("intel-list-dates", limit=limits.MAX_CRL, errors=_COLLATERAL)
def _intel_list_dates() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> CollateralDates:
        return CollateralDates.parse(replace(_intel(), pck_crl=data))

    return function, [_intel().pck_crl, _intel().root_ca_crl, machines.amd_crl()]


@_target("intel-chain-dates", limit=limits.MAX_TCB_INFO, errors=_COLLATERAL)
def _intel_chain_dates() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> CollateralDates:
        return CollateralDates.parse(replace(_intel(), tcb_info_issuer_chain=_text(data)))

    return function, [_intel().tcb_info_issuer_chain.encode()]


@_target("crl", limit=limits.MAX_CRL, errors=(MalformedCollateral, InvalidCollateral, Revoked))
def _crl() -> tuple[Function, list[bytes]]:
    authority = machines.amd_authority()
    chain = [Certificate.parse(certificate) for certificate in (authority.ask, authority.root)]

    def function(data: bytes) -> object:
        return verify_not_listed(data, issuer=chain[-1], certificates=chain)

    return function, [authority.crl(), authority.crl([1, 2, 3]), _intel().root_ca_crl]


@_target("crl-signed", limit=limits.MAX_CRL, errors=(MalformedCollateral, InvalidCollateral, Revoked))
def _crl_signed() -> tuple[Function, list[bytes]]:
    root = machines.intel_authority().root_ca
    issuer = Certificate.parse(root.der)

    def function(data: bytes) -> object:
        signature = root.key.sign(data, ec.ECDSA(hashes.SHA384()))
        crl = der(0x30, data, ECDSA_SHA384, der(3, b"\0", signature))
        return verify_not_listed(crl, issuer=issuer, certificates=[issuer])

    def body(revoked: list[int]) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject)
        builder = builder.last_update(intel.YEAR[0]).next_update(intel.YEAR[1])
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(intel.NOW)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(root.key, hashes.SHA384()).tbs_certlist_bytes

    return function, [body([]), body([1, 2]), body([root.serial])]


@_target("ocsp-answer", limit=limits.MAX_OCSP, errors=_COLLATERAL)
def _ocsp_answer() -> tuple[Function, list[bytes]]:
    return lambda data: OcspAnswers.parse([data]), list(_devices().collateral.ocsp_responses[:2])


@_target("ocsp-answer-signed", limit=limits.MAX_OCSP, errors=(MalformedCollateral, InvalidCollateral, Revoked))
def _ocsp_answer_signed() -> tuple[Function, list[bytes]]:
    authority = nvidia.nvidia_authority()
    subject, issuer = machines.device("hopper", 0).chain[1:3]
    pair = Certificate.parse(subject), Certificate.parse(issuer)
    key = authority._signers[issuer].key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signer = key

    def function(data: bytes) -> object:
        return OcspAnswers.parse([nvidia.sign_ocsp(data, signer, [issuer])]).verify_good(*pair)

    def body(status: str) -> bytes:
        answer = authority.ocsp(subject, issuer, status, responder="issuer")  # type: ignore[arg-type]
        return ocsp.load_der_ocsp_response(answer).tbs_response_bytes

    return function, [body(status) for status in ("good", "revoked", "unknown")]


_RIM_ERRORS: Errors = (MalformedCollateral, InvalidReferenceValues)


@_target("manifest", limit=limits.MAX_RIM, errors=_RIM_ERRORS)
def _manifest() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        root, _ = parse_manifest(data)
        Manifest.parse(root)
        SignedManifest.parse(data).verified()

    return function, [*machines.rims("hopper"), *machines.rims("ls10")]


@_target("manifest-signed", limit=limits.MAX_RIM, errors=_RIM_ERRORS)
def _manifest_signed() -> tuple[Function, list[bytes]]:
    """The document under the signature, signed in the vendor's name."""
    signer = machines.rim_signer("hopper")

    def function(data: bytes) -> None:
        try:
            signed = nvidia.sign_rim(data, signer)
        except (ValueError, etree.LxmlError, SyntaxError, AssertionError):
            return  # cannot be signed
        SignedManifest.parse(signed).verified()

    return function, [nvidia.rim_document(nvidia.golden(kind), "590.12") for kind in nvidia.KINDS]


# --- Policies and bundles --------------------------------------------------------------------------------------------------

_SIGNER = PolicySigner("security@clinic.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))
_POLICY_TDX = f"""policy = 1
name = "TDX"
unsafe = ["UnsafeOlderCollateral"]
[[releases]]
name = "subrosa-enclave 1.0"
type = "tdx"
measurement = "{"00" * 48}"
registers = ["{"00" * 48}", "{"01" * 48}", "{"02" * 48}"]
events = {{ compose-hash = "00ff" }}
launch_data = "{"00" * 48}"
[[releases]]
name = "b"
type = "sev-snp-azure"
measurement = "{"00" * 48}"
pcrs = {{ 4 = "{"00" * 32}", 11 = "{"00" * 32}" }}
[amd]
chips = ["{"00" * 64}"]
[amd.floors]
Turin = {{ fmc = 1, snp = 4 }}
[devices]
gpus = 8
ids = ["{"00" * 32}"]
drivers = ["590.12"]
[collateral]
max_age_days = 31
"""


@_target("policy-text", limit=limits.MAX_POLICY, errors=(MalformedPolicy,))
def _policy_text() -> tuple[Function, list[bytes]]:
    return lambda data: parse_policy_text(_text(data)), [TEMPLATE.encode(), _POLICY_TDX.encode()]


@_target("policy-note", limit=limits.MAX_POLICY, errors=(MalformedPolicy,))
def _policy_note() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        policy = parse_policy(data, _SIGNER.key)
        assert parse_policy_unsigned(data).releases == policy.releases

    return function, [_SIGNER.sign(text).encode() for text in (TEMPLATE, _POLICY_TDX)]


@_target("policy-note-unsigned", limit=limits.MAX_POLICY, errors=(MalformedPolicy,))
def _policy_note_unsigned() -> tuple[Function, list[bytes]]:
    return parse_policy_unsigned, [_SIGNER.sign(_POLICY_TDX).encode(), _POLICY_TDX.encode()]


@_target("policy-key", limit=1024, errors=(MalformedPolicy,))
def _policy_key() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        key = PolicyKey.parse(_text(data))
        assert PolicyKey.parse(str(key)) == key

    return function, [str(_SIGNER.key).encode()]


@_target("bundle", limit=limits.MAX_BUNDLE, errors=(*_EVIDENCE, *_COLLATERAL))
def _bundle() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        assert Bundle.parse(data).encode() == data

    return function, [
        Bundle(machine.nonce, machine.now, machine.document, machine.collateral).encode()
        for machine in (_snp(), _tdx(), _devices())
    ]


# --- The attester's side, and the network's --------------------------------------------------------------------------------


@_target("certificate-table", limit=MAX_AUXBLOB, errors=(MalformedCertificateTable,))
def _certificate_table() -> tuple[Function, list[bytes]]:
    certificates = _snp().evidence.cpu.certificates
    guids = ("63da758de6644564adc5f4b93be8accd", "4ab7b379bbac4fe4a02f05aef327c782", "c0b406a4a803495297433fb6014cd0ae")
    ends = [24 * (len(guids) + 1) + sum(map(len, certificates[:count])) for count in range(len(guids) + 1)]
    entries = [
        bytes.fromhex(guid) + start.to_bytes(4, "little") + (end - start).to_bytes(4, "little")
        for guid, (start, end) in zip(guids, pairwise(ends), strict=True)
    ]
    table = b"".join(entries) + bytes(24) + b"".join(certificates)
    return collected.parse_certificate_table, [table, bytes(64)]


@_target("collected-pem", limit=collected.MAX_FILE, errors=(ValueError,))
def _collected_pem() -> tuple[Function, list[bytes]]:
    """The functions promise a ``ValueError``, which their callers turn into errors of their own."""

    def function(data: bytes) -> None:
        collected.one_certificate(data)
        collected.certificates_from_pem(data)

    root = machines.amd_authority().root
    return function, [_pem(root), root, machines.device("hopper", 0).pem]


@_target("dstack-answer", limit=MAX_ANSWER, errors=(DstackFailed,))
def _dstack_answer() -> tuple[Function, list[bytes]]:
    log = eventlog.runtime_log().text
    answer = {"quote": machines.intel_authority().quote().hex(), "event_log": log, "report_data": bytes(64).hex()}
    return lambda data: tdx_evidence(data, bytes(64)), [json.dumps(answer).encode()]


@_target("envelope", limit=MAX_ENVELOPE, errors=(forms.NotInForm,))
def _envelope() -> tuple[Function, list[bytes]]:
    """Intel's signed documents: the exact text of each member is cut out."""

    def function(data: bytes) -> None:
        members = forms.cut_members(data)
        text = data.decode()
        assert all(cut in text and json.loads(cut) == value for value, cut in members.values() if "NaN" not in cut)
        assert forms.strict_object(data) == {name: value for name, (value, _) in members.items()}

    signature = _intel().tcb_info_signature.hex()
    return function, [
        f'{{"tcbInfo":{_intel().tcb_info},"signature":"{signature}"}}'.encode(),
        b'{"a" : [1, "\\u00e9"]}',
    ]


@_target("fetched-pem", limit=4 * limits.MAX_CERTIFICATE, errors=(forms.NotInForm,))
def _fetched_pem() -> tuple[Function, list[bytes]]:
    assert MAX_CHAIN <= 4 * limits.MAX_CERTIFICATE
    authority = machines.amd_authority()
    return forms.from_pem, [_pem(authority.ask) + _pem(authority.root), _intel().pck_crl_issuer_chain.encode()]


@_target("fetched-der", limit=limits.MAX_CRL, errors=(forms.NotInForm,))
def _fetched_der() -> tuple[Function, list[bytes]]:
    return forms.signed_object, [machines.amd_crl(), machines.amd_authority().root]


@_target("kept-answer", limit=MAX_FILE, errors=(MalformedEvidence,))
def _kept_answer() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        assert Kept.parse(data).encode() == data

    return function, [Kept("ab" * 32, machines.NOW, Response(200, (("A", "b"),), b"body")).encode()]


@dataclass(frozen=True, slots=True)
class _Service:
    """A transport that gives one answer to everything."""

    answer: Response

    async def fetch(self, _request: Request) -> Response:
        return self.answer


def _fetched(fetching: Coroutine[None, None, T]) -> T:
    """Run to the end on a loop of its own, whatever loop there is."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(fetching)
    finally:
        loop.close()


@_target("fetched-manifest", limit=fetched_nvidia.MAX_RIM_ANSWER, errors=(FetchError,))
def _fetched_manifest() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> bytes:
        return _fetched(fetched_nvidia.fetch_rim(_Service(Response(200, (), data)), "NV_GPU_DRIVER_GH100_590.12"))

    rim = machines.rims("hopper")[0]
    digest = hashlib.sha256(rim).hexdigest()
    answer = {"id": "NV_GPU_DRIVER_GH100_590.12", "rim": to_base64(rim), "sha256": digest, "rim_format": "TCG"}
    return function, [json.dumps(answer).encode()]


@_target("fetched-ocsp-answer", limit=limits.MAX_OCSP, errors=(FetchError,))
def _fetched_ocsp_answer() -> tuple[Function, list[bytes]]:
    certificate, issuer = machines.device("hopper", 0).chain[1:3]

    def function(data: bytes) -> bytes:
        return _fetched(fetched_nvidia.fetch_ocsp(_Service(Response(200, (), data)), certificate, issuer))

    return function, [machines.ocsp_answer(certificate, issuer)]


@_target("fetched-revocation-list", limit=2 * limits.MAX_CRL, errors=(FetchError,))
def _fetched_revocation_list() -> tuple[Function, list[bytes]]:
    """Of AMD, whose issuers stand in PEM before it, and of Intel's caches, which write hexadecimal."""

    def function(data: bytes) -> object:
        return _fetched(fetch_amd_issuers(_Service(Response(200, (), data)), product="Genoa", provider=False))

    authority = machines.amd_authority()
    return function, [_pem(authority.ask) + _pem(authority.root), machines.amd_crl()]


def _gathered(document: EvidenceDocument) -> Collateral:
    """What evidence says that has to be asked for, where nobody knows anything."""
    return _fetched(gather(_Service(Response(404)), document))


_GATHERED: Errors = (FetchError, AttestationError)


@_target("gather-snp-report", limit=amd.REPORT_SIZE, errors=_GATHERED)
def _gather_snp_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Collateral:
        document = _snp().evidence
        return _gathered(replace(document, cpu=replace(document.cpu, report=data, certificates=())))

    return function, [_snp().evidence.cpu.report]


@_target("gather-snp-certificate", limit=limits.MAX_CERTIFICATE, errors=_GATHERED)
def _gather_snp_certificate() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Collateral:
        document = _snp().evidence
        return _gathered(replace(document, cpu=replace(document.cpu, certificates=(data,))))

    return function, [_snp().evidence.cpu.certificates[0], machines.vlek()[0]]


@_target("gather-quote", limit=limits.MAX_REPORT, errors=_GATHERED)
def _gather_quote() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Collateral:
        document = _tdx().evidence
        return _gathered(replace(document, cpu=replace(document.cpu, report=data)))

    return function, [_tdx().evidence.cpu.report, _runtime().evidence.cpu.report]


@_target("gather-quote-certificate", limit=limits.MAX_CERTIFICATE, errors=_GATHERED)
def _gather_quote_certificate() -> tuple[Function, list[bytes]]:
    leaf, *issuers = certificates_from_pem(Quote.parse(_tdx().evidence.cpu.report).chain_pem)

    def function(data: bytes) -> Collateral:
        document = _tdx().evidence
        quote = chained(document.cpu.report, b"".join(map(_pem, (data, *issuers))))
        return _gathered(replace(document, cpu=replace(document.cpu, report=quote)))

    return function, [leaf]


@_target("gather-device-report", limit=limits.MAX_REPORT, errors=_GATHERED)
def _gather_device_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Collateral:
        document = _devices().evidence
        return _gathered(replace(document, devices=(replace(document.devices[0], report=data),)))

    return function, [device.report for device in _devices().evidence.devices]


@_target("gather-device-certificate", limit=limits.MAX_CERTIFICATE, errors=_GATHERED)
def _gather_device_certificate() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Collateral:
        document = _devices().evidence
        leaf, _, *issuers = document.devices[0].certificates
        return _gathered(
            replace(document, devices=(replace(document.devices[0], certificates=(leaf, data, *issuers)),))
        )

    return function, [_devices().evidence.devices[0].certificates[1]]


# --- Whole appraisals ------------------------------------------------------------------------------------------------------


def _with_cpu(machine: Machine, **changes: Any) -> Appraisal:
    return machine.presenting(lambda document: replace(document, cpu=replace(document.cpu, **changes))).assess()


def _with_device(machine: Machine, **changes: Any) -> Appraisal:
    return machine.presenting(
        lambda document: replace(document, devices=(replace(document.devices[0], **changes),))
    ).assess()


@_target("appraise-document", limit=limits.MAX_DOCUMENT, errors=_NOTHING)
def _appraise_document() -> tuple[Function, list[bytes]]:
    return lambda data: _devices().assess(document=data), [_devices().document]


@_target("appraise-snp-report", limit=amd.REPORT_SIZE, errors=_NOTHING)
def _appraise_snp_report() -> tuple[Function, list[bytes]]:
    return lambda data: _with_cpu(_snp(), report=data), [_snp().evidence.cpu.report]


@_target("appraise-snp-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_snp_certificate() -> tuple[Function, list[bytes]]:
    """The chip's certificate is exchanged; the issuers' stay."""
    leaf, *issuers = _snp().evidence.cpu.certificates
    return lambda data: _with_cpu(_snp(), certificates=(data, *issuers)), [leaf, machines.vlek()[0]]


@_target("appraise-azure-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_azure_report() -> tuple[Function, list[bytes]]:
    return lambda data: _with_cpu(_azure(), report=data), [_azure().evidence.cpu.report]


@_target("appraise-tpm-quote", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_tpm_quote() -> tuple[Function, list[bytes]]:
    quote = _azure().evidence.cpu.tpm
    assert quote is not None
    return lambda data: _with_cpu(_azure(), tpm=replace(quote, message=data)), [quote.message]


@_target("appraise-quote", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_quote() -> tuple[Function, list[bytes]]:
    return lambda data: _with_cpu(_tdx(), report=data), [
        machine.evidence.cpu.report for machine in (_tdx(), _runtime())
    ]


@_target("appraise-quote-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_quote_certificate() -> tuple[Function, list[bytes]]:
    """The platform's certificate is exchanged; the issuers' stay."""
    leaf, *issuers = certificates_from_pem(Quote.parse(_tdx().evidence.cpu.report).chain_pem)

    def function(data: bytes) -> Appraisal:
        return _with_cpu(_tdx(), report=chained(_tdx().evidence.cpu.report, b"".join(map(_pem, (data, *issuers)))))

    return function, [leaf]


@_target("appraise-event-log", limit=limits.MAX_EVENT_LOG, errors=_NOTHING)
def _appraise_event_log() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> Appraisal:
        return _with_cpu(_runtime() if data.startswith(b"[") else _tdx(), event_log=data)

    return function, [machine.evidence.cpu.event_log for machine in (_runtime(), _tdx())]


@_target("appraise-tcb-info-signed", limit=limits.MAX_TCB_INFO, errors=_NOTHING)
def _appraise_tcb_info_signed() -> tuple[Function, list[bytes]]:
    key = machines.intel_authority().tcb_signing.key

    def function(data: bytes) -> Appraisal:
        text = data.decode("utf-8", "replace")
        signed = replace(_intel(), tcb_info=text, tcb_info_signature=intel.sign_report(text.encode(), key))
        return _tdx().with_collateral(intel=signed).assess()

    return function, [_intel().tcb_info.encode()]


@_target("appraise-qe-identity-signed", limit=limits.MAX_TCB_INFO, errors=_NOTHING)
def _appraise_qe_identity_signed() -> tuple[Function, list[bytes]]:
    key = machines.intel_authority().tcb_signing.key

    def function(data: bytes) -> Appraisal:
        text = data.decode("utf-8", "replace")
        signed = replace(_intel(), qe_identity=text, qe_identity_signature=intel.sign_report(text.encode(), key))
        return _tdx().with_collateral(intel=signed).assess()

    return function, [_intel().qe_identity.encode()]


@_target("appraise-intel-list", limit=limits.MAX_CRL, errors=_NOTHING)
def _appraise_intel_list() -> tuple[Function, list[bytes]]:
    return lambda data: _tdx().with_collateral(intel=replace(_intel(), pck_crl=data)).assess(), [_intel().pck_crl]


@_target("appraise-intel-root-list", limit=limits.MAX_CRL, errors=_NOTHING)
def _appraise_intel_root_list() -> tuple[Function, list[bytes]]:
    return lambda data: _tdx().with_collateral(intel=replace(_intel(), root_ca_crl=data)).assess(), [
        _intel().root_ca_crl
    ]


@_target("appraise-gpu-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_gpu_report() -> tuple[Function, list[bytes]]:
    return lambda data: _with_device(_gpu(), report=data), [_gpu().evidence.devices[0].report]


@_target("appraise-switch-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_switch_report() -> tuple[Function, list[bytes]]:
    return lambda data: _with_device(_switch(), report=data), [_switch().evidence.devices[0].report]


@_target("appraise-gpu-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_gpu_certificate() -> tuple[Function, list[bytes]]:
    leaf, *issuers = _gpu().evidence.devices[0].certificates
    return lambda data: _with_device(_gpu(), certificates=(data, *issuers)), [leaf]


@_target("appraise-switch-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_switch_certificate() -> tuple[Function, list[bytes]]:
    """The one above the leaf: its serial number names the switch."""
    leaf, device, *issuers = _switch().evidence.devices[0].certificates
    return lambda data: _with_device(_switch(), certificates=(leaf, data, *issuers)), [device]


@_target("appraise-manifest", limit=limits.MAX_RIM, errors=_NOTHING)
def _appraise_manifest() -> tuple[Function, list[bytes]]:
    first, *others = _gpu().collateral.rims
    return lambda data: _gpu().with_collateral(rims=(data, *others)).assess(), [first]


@_target("appraise-ocsp-answer", limit=limits.MAX_OCSP, errors=_NOTHING)
def _appraise_ocsp_answer() -> tuple[Function, list[bytes]]:
    first, *others = _gpu().collateral.ocsp_responses
    return lambda data: _gpu().with_collateral(ocsp_responses=(data, *others)).assess(), [first]
