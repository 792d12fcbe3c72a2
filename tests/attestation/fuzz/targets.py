"""What is fuzzed: for each parser a function of bytes, the errors that it may raise, and seeds to begin with.

Seeds come from the authorities, so that no outside folder is needed; names of appraisals begin with ``appraise-``. Those
walk through every check of a whole machine of which one part is exchanged, and may raise nothing at all: a step that
fails has to become a refusal. Names that end with ``-signed`` sign the bytes that they are given, as a vendor would,
because what stands behind a signature is otherwise never reached.
"""

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import ocsp

from attestation import limits
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
from attestation.document import DeviceEvidence, EvidenceDocument
from attestation.encoding import decode, encode
from attestation.errors import (
    InvalidCollateral,
    InvalidReferenceValues,
    MalformedCollateral,
    MalformedEvidence,
    MalformedPolicy,
    Revoked,
    UnsupportedEvidence,
)
from attestation.fetching import forms
from attestation.fetching.cache import MAX_FILE, Kept
from attestation.fetching.intel import MAX_CHAIN, MAX_ENVELOPE
from attestation.fetching.transport import Response
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
def _tdx_runtime() -> Machine:
    return machines.tdx_machine((5, intel.TD15), runtime=eventlog.runtime_log(boot=eventlog.BOOT))


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
    return function, [eventlog.event_log(area=2048).data, *runtime, eventlog.runtime_log(boot=eventlog.BOOT).text.encode()]


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
        except (ValueError, SyntaxError, AssertionError):
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
    return function, [f'{{"tcbInfo":{_intel().tcb_info},"signature":"{signature}"}}'.encode(), b'{"a" : [1, "\\u00e9"]}']


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


# --- Whole appraisals ------------------------------------------------------------------------------------------------------


@_target("appraise-document", limit=limits.MAX_DOCUMENT, errors=_NOTHING)
def _appraise_document() -> tuple[Function, list[bytes]]:
    machine = _devices()
    return lambda data: machine.assess(document=data), [machine.document]


@_target("appraise-snp-report", limit=amd.REPORT_SIZE, errors=_NOTHING)
def _appraise_snp_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _snp().presenting(lambda document: replace(document, cpu=replace(document.cpu, report=data))).assess()

    return function, [_snp().evidence.cpu.report]


@_target("appraise-snp-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_snp_certificate() -> tuple[Function, list[bytes]]:
    """The chip's certificate is exchanged; the issuers' stay."""
    issuers = _snp().evidence.cpu.certificates[1:]

    def function(data: bytes) -> None:
        _snp().presenting(
            lambda document: replace(document, cpu=replace(document.cpu, certificates=(data, *issuers)))
        ).assess()

    return function, [_snp().evidence.cpu.certificates[0], machines.vlek()[0]]


@_target("appraise-azure-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_azure_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _azure().presenting(lambda document: replace(document, cpu=replace(document.cpu, report=data))).assess()

    return function, [_azure().evidence.cpu.report]


@_target("appraise-quote", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_quote() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _tdx().presenting(lambda document: replace(document, cpu=replace(document.cpu, report=data))).assess()

    return function, [_tdx().evidence.cpu.report, _tdx_runtime().evidence.cpu.report]


@_target("appraise-quote-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_quote_certificate() -> tuple[Function, list[bytes]]:
    """The platform's certificate is exchanged; the issuers' stay."""
    authority = machines.intel_authority()
    issuers = intel.pem_chain(authority.platform_ca, authority.root_ca).encode()

    def function(data: bytes) -> None:
        quote = authority.quote(chain=_pem(data) + issuers)
        if len(quote) <= limits.MAX_REPORT:
            _tdx().presenting(lambda document: replace(document, cpu=replace(document.cpu, report=quote))).assess()

    return function, [authority.pck.der]


@_target("appraise-event-log", limit=limits.MAX_EVENT_LOG, errors=_NOTHING)
def _appraise_event_log() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _tdx_runtime().presenting(
            lambda document: replace(document, cpu=replace(document.cpu, event_log=data))
        ).assess()

    return function, [_tdx_runtime().evidence.cpu.event_log, _tdx().evidence.cpu.event_log[:2048]]


@_target("appraise-tcb-info-signed", limit=limits.MAX_TCB_INFO, errors=_NOTHING)
def _appraise_tcb_info_signed() -> tuple[Function, list[bytes]]:
    key = machines.intel_authority().tcb_signing.key

    def function(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        signed = replace(_intel(), tcb_info=text, tcb_info_signature=intel.sign_report(text.encode(), key))
        _tdx().with_collateral(intel=signed).assess()

    return function, [_intel().tcb_info.encode()]


@_target("appraise-qe-identity-signed", limit=limits.MAX_TCB_INFO, errors=_NOTHING)
def _appraise_qe_identity_signed() -> tuple[Function, list[bytes]]:
    key = machines.intel_authority().tcb_signing.key

    def function(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        signed = replace(_intel(), qe_identity=text, qe_identity_signature=intel.sign_report(text.encode(), key))
        _tdx().with_collateral(intel=signed).assess()

    return function, [_intel().qe_identity.encode()]


@_target("appraise-intel-list", limit=limits.MAX_CRL, errors=_NOTHING)
def _appraise_intel_list() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _tdx().with_collateral(intel=replace(_intel(), pck_crl=data)).assess()
        _tdx().with_collateral(intel=replace(_intel(), root_ca_crl=data)).assess()

    return function, [_intel().pck_crl, _intel().root_ca_crl]


def _of_device(machine: Machine, change: Callable[[DeviceEvidence], DeviceEvidence]) -> None:
    machine.presenting(lambda document: replace(document, devices=tuple(map(change, document.devices)))).assess()


@_target("appraise-gpu-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_gpu_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _of_device(_gpu(), lambda device: replace(device, report=data))

    return function, [_gpu().evidence.devices[0].report]


@_target("appraise-switch-report", limit=limits.MAX_REPORT, errors=_NOTHING)
def _appraise_switch_report() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _of_device(_switch(), lambda device: replace(device, report=data))

    return function, [_switch().evidence.devices[0].report]


@_target("appraise-gpu-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_gpu_certificate() -> tuple[Function, list[bytes]]:
    def function(data: bytes) -> None:
        _of_device(_gpu(), lambda device: replace(device, certificates=(data, *device.certificates[1:])))

    return function, [_gpu().evidence.devices[0].certificates[0]]


@_target("appraise-switch-certificate", limit=limits.MAX_CERTIFICATE, errors=_NOTHING)
def _appraise_switch_certificate() -> tuple[Function, list[bytes]]:
    """The one above the leaf: its serial number names the switch."""

    def function(data: bytes) -> None:
        leaf, _, *issuers = _switch().evidence.devices[0].certificates
        _of_device(_switch(), lambda device: replace(device, certificates=(leaf, data, *issuers)))

    return function, [_switch().evidence.devices[0].certificates[1]]


@_target("appraise-manifest", limit=limits.MAX_RIM, errors=_NOTHING)
def _appraise_manifest() -> tuple[Function, list[bytes]]:
    first, *others = _gpu().collateral.rims

    def function(data: bytes) -> None:
        _gpu().with_collateral(rims=(data, *others)).assess()

    return function, [first]


@_target("appraise-ocsp-answer", limit=limits.MAX_OCSP, errors=_NOTHING)
def _appraise_ocsp_answer() -> tuple[Function, list[bytes]]:
    first, *others = _gpu().collateral.ocsp_responses

    def function(data: bytes) -> None:
        _gpu().with_collateral(ocsp_responses=(data, *others)).assess()

    return function, [first]

