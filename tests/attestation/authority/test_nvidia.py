"""The fake NVIDIA is judged by others: OpenSSL for certificates and OCSP, signxml for manifests, a hash for layout."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtensionOID
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidDigest, InvalidInput
from signxml.exceptions import InvalidSignature as InvalidXmlSignature
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from tests.attestation.authority.nvidia import (
    DICE_DEVICE_ID,
    DICE_TCB_INFO,
    DSIG,
    FAMILIES,
    FOREVER,
    FWID,
    HMAC_SHA384,
    NOW,
    PDI,
    PROTECTED_PCIE,
    RSA_SHA384,
    SIGNATURE_BYTES,
    SWID,
    ZERO,
    Arch,
    NvidiaAuthority,
    Signer,
    fields,
    golden,
    nvidia_authority,
    raw_signature,
    rsa_key,
    sign_report,
)

ARCHES: tuple[Arch, ...] = ("hopper", "blackwell", "ls10")
NONCE = bytes(range(32))
PINNED = SignatureConfiguration(
    signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}), digest_algorithms=frozenset({DigestAlgorithm.SHA384})
)


def loaded(chain: tuple[bytes, ...]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(one) for one in chain]


def verify_report(report: bytes, leaf: bytes) -> None:
    body, signature = report[:-SIGNATURE_BYTES], report[-SIGNATURE_BYTES:]
    key = x509.load_der_x509_certificate(leaf).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    key.verify(encode_dss_signature(r, s), body, ec.ECDSA(hashes.SHA384()))


def verify_rim(rim: bytes, signer: Signer) -> etree._Element:
    pem = x509.load_der_x509_certificate(signer.chain[0]).public_bytes(Encoding.PEM).decode()
    result = XMLVerifier().verify(rim, x509_cert=pem, expect_config=PINNED)
    assert isinstance(result, VerifyResult)
    assert result.signed_xml is not None
    return result.signed_xml


@pytest.mark.parametrize("arch", ARCHES)
def test_a_chain_leads_from_the_leaf_to_the_root(arch: Arch) -> None:
    authority = nvidia_authority()
    device = authority.device(arch)
    chain = loaded(device.chain)
    assert len(chain) == 5
    assert device.chain[-1] == authority.root
    assert x509.load_pem_x509_certificates(device.pem) == chain
    for certificate, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        certificate.verify_directly_issued_by(issuer)
        assert certificate.not_valid_after_utc == FOREVER
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA384)
    authorities = [one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in chain[1:]]
    assert authorities == [True] * 4
    assert chain[1].serial_number.to_bytes(9, "big")[1:] == device.pdi
    oid = DICE_TCB_INFO if arch == "blackwell" else DICE_DEVICE_ID
    dice = chain[0].extensions.get_extension_for_oid(oid).value
    assert isinstance(dice, x509.UnrecognizedExtension)
    assert device.fwid in dice.value
    assert dice.value.endswith(device.fwid) == (arch != "blackwell")


@pytest.mark.parametrize("arch", ARCHES)
def test_a_report_is_laid_out_and_signed(arch: Arch) -> None:
    device = nvidia_authority().device(arch)
    report = device.report(NONCE)
    verify_report(report, device.chain[0])
    found = fields(report)
    ends = [piece.stop for piece in found.values()]
    assert [piece.start for piece in found.values()] == [0, *ends[:-1]]
    assert ends[-1] == len(report)
    assert report[found["request.nonce"]] == NONCE
    assert report[found["response.block_count"]][0] == FAMILIES[arch].blocks
    assert (f"opaque[{FWID}].value" in found) == (arch != "ls10")
    if arch == "ls10":
        assert report[found[f"opaque[{PDI}].value"]] == device.pdi
    for index, accepted in (golden("driver", arch) | golden("vbios", arch)).items():
        assert report[found[f"measurement[{index + 1}].digest"]] in accepted
    for piece in list(found.values())[:-2]:
        broken = bytearray(report)
        broken[piece.start] ^= 1
        with pytest.raises(InvalidSignature):
            verify_report(bytes(broken), device.chain[0])


def test_one_thing_of_a_report_can_be_changed() -> None:
    authority = nvidia_authority()
    device, other = authority.device(), authority.device()

    def values(report: bytes) -> dict[str, bytes]:
        verify_report(report, device.chain[0])
        return {name: report[piece] for name, piece in fields(report).items()}

    assert values(device.report(NONCE, measurements={9: ZERO}))["measurement[10].digest"] == ZERO
    assert values(device.report(NONCE, changed=PROTECTED_PCIE))["opaque[36].value"] == b"\x02\x00"
    assert f"opaque[{FWID}].value" not in values(device.report(NONCE, without=[FWID]))
    assert "measurement[3]#2.digest" in values(device.report(NONCE, blocks=[*device.blocks(), (3, ZERO)]))
    assert "opaque[20]#2.value" in values(device.report(NONCE, opaque=[*device.opaque(), (FWID, ZERO)]))
    body = device.report(NONCE)[:-SIGNATURE_BYTES]
    assert values(sign_report(body.replace(NONCE, ZERO[:32]), device.key))["request.nonce"] == ZERO[:32]
    assert device.report(NONCE, trailing=b"\x00").endswith(b"\x00")
    for report in (device.report(NONCE, signature=raw_signature(0, 1)), device.report(NONCE, key=other.key)):
        with pytest.raises(InvalidSignature):
            verify_report(report, device.chain[0])
    assert authority.device(certified_fwid=ZERO).fwid != ZERO
    forged = loaded(authority.device(leaf_signed_by=other.key).chain)
    with pytest.raises(InvalidSignature):
        forged[0].verify_directly_issued_by(forged[1])


def test_a_manifest_is_signed_as_the_vendor_signs() -> None:
    authority = nvidia_authority()
    signer = authority.rim_signer()
    chain = loaded(signer.chain)
    assert len(chain) == 4
    assert signer.chain[-1] == authority.rim_root
    for certificate, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        certificate.verify_directly_issued_by(issuer)
        assert certificate.not_valid_before_utc <= NOW <= certificate.not_valid_after_utc
    rim = authority.rim("driver", {3: (ZERO, bytes([1]) * 48)}, signer=signer, inactive={4: (bytes([2]) * 48,)})
    root = verify_rim(rim, signer)
    resources = root.findall(f"{{{SWID}}}Payload/{{{SWID}}}Resource")
    assert [one.get("index") for one in resources] == [str(index) for index in range(64)]
    assert [one.get("index") for one in resources if one.get("active") == "True"] == ["3"]
    assert [one.get("alternatives") for one in resources[3:5]] == ["2", "1"]
    doctype = "<!DOCTYPE SoftwareIdentity>\n"
    declared = authority.rim("vbios", signer=signer, doctype=doctype)
    verify_rim(declared.removeprefix(doctype.encode()), signer)
    with pytest.raises(InvalidInput):
        verify_rim(declared, signer)
    inside = f'<ds:Signature xmlns:ds="{DSIG}"/>'
    assert authority.rim("vbios", signer=signer, inside=inside).count(b"<ds:Signature ") == 2
    with pytest.raises(InvalidDigest):
        verify_rim(rim.replace(b"590.12", b"590.13"), signer)
    with pytest.raises(InvalidXmlSignature):
        verify_rim(rim, NvidiaAuthority().rim_signer())
    for algorithm, key in ((HMAC_SHA384, None), (RSA_SHA384, rsa_key())):
        odd = authority.rim_signer(key=key)
        with pytest.raises((InvalidXmlSignature, InvalidInput)):
            verify_rim(authority.rim("driver", signer=odd, algorithm=algorithm), odd)


@pytest.mark.parametrize("status", ["good", "revoked", "unknown"])
@pytest.mark.parametrize("responder", ["delegated", "issuer", "stranger", "no_ocsp_signing"])
def test_an_ocsp_answer_has_the_status_and_the_signer(status: str, responder: str) -> None:
    authority = nvidia_authority()
    _, device, provisioner, *_ = authority.device().chain
    answer = ocsp.load_der_ocsp_response(authority.ocsp(device, provisioner, status, responder=responder, nonce=NONCE))  # type: ignore[arg-type]
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert answer.certificate_status is ocsp.OCSPCertStatus[status.upper()]
    assert answer.serial_number == x509.load_der_x509_certificate(device).serial_number
    assert answer.produced_at_utc == answer.this_update_utc == NOW - timedelta(hours=1)
    issuer = x509.load_der_x509_certificate(provisioner)
    signer = issuer if responder == "issuer" else answer.certificates[0]
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA384()))
    if responder == "issuer":
        assert not answer.certificates
    elif responder == "stranger":
        with pytest.raises(InvalidSignature):
            signer.verify_directly_issued_by(issuer)
    else:
        signer.verify_directly_issued_by(issuer)
        named = [one.oid for one in signer.extensions]
        assert (ExtensionOID.EXTENDED_KEY_USAGE in named) == (responder == "delegated")
