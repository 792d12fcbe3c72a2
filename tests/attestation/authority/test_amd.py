"""The stand-in for AMD and Azure: complete evidence holds, what a test breaks is broken alone, and the shape is the real one."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.attestation.authority.amd import (
    EXTENSIONS,
    FIELDS,
    NOW,
    PRODUCTS,
    REPORT_SIZE,
    SIGNATURE_FIELDS,
    SIGNED_SIZE,
    VLEK_SIGNED,
    AmdAuthority,
    Issuer,
    Report,
    Tcb,
    default_chip_id,
    patched,
    sign_report,
    signature,
)
from tests.attestation.authority.azure import (
    BLOB_SIZE,
    HclBlob,
    Quote,
    azure_evidence,
    jwk,
    report_data,
    runtime_claims,
    sign_quote,
    tpm_key,
)

# AMD's chip keys have the serial number 0, of which cryptography warns.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")

GENOA = AmdAuthority("Genoa")
TURIN = AmdAuthority("Turin")
STRANGER = AmdAuthority("Genoa", owner="stranger")

# Read off a real Genoa and a real Turin machine: project-oak/oak, oak_attestation_verification/testdata (Apache-2.0),
# {genoa,turin}_oc_{evidence,endorsements}.binarypb.
REAL_GENOA = Report(
    reported_tcb=Tcb(bootloader=0x0A, snp=0x19, microcode=0x54),
    report_data=bytes.fromhex("8100555af0ad8e7525be6dffeed0af83e30bbacbf03b76e175e6894d1ed057ce").ljust(64, b"\0"),
    measurement=bytes.fromhex(
        "c57729018b0a6fb90dc17bb138b0aa35e4401004283ff4a2c24d3739ff3750f52384370e77b7032862a08c440a9bc4dc"
    ),
    report_id=bytes.fromhex("e3439f6d05c064ee59d73088059246b9f7e6ae68e7eba9874e68a3f66e83aaa0"),
    chip_id=bytes.fromhex(
        "d2421d976f95ce0ba849b7cc5c789122f1e59c77a037272c137ae4d188bb102a"
        "dbc7c53d0302bff82a432c94a305dec7a7a270ceb19a10f04a83316c6486968d"
    ),
)
REAL_GENOA_KEY = bytes.fromhex(
    "044b1b94dd8d38f851abaa5d64c79ec1f9657887396eafe6ef79ba5d71d04ece02fcaaa0560d1bc8ac1dfaac216dfc9dc8"
    "ff937df02965ea110dc8b98088bebc641c28f36547e78584d6e9dcdeda98e0eaf23c27938626cabfcdfbc33f29d48dc8"
)
REAL_GENOA_SIGNATURE = (
    0x554EE5F9CED8D939CEE4F21CA81E457043D4F3BB475C9A71BC0BC3CE25BB2E3EBA98EF11794EF7301F6FF5DD8EEA7CCF,
    0x9BCC5CB5FF91F286FA11C611B2B1D021E05421FDBBFB5414462270630D9DD785DA7E9A04854FE1D533EF48444E592356,
)
REAL_GENOA_SINCE = datetime(2025, 8, 7, 17, 21, 41, tzinfo=UTC)
REAL_GENOA_TBS = "9a687ff2dff30e6266d72c4c069d4503f64e2ef1eb32fb3992a30fb6f075aa87"
REAL_TURIN = Report(
    product="Turin",
    platform_info=0x67,
    reported_tcb=Tcb(bootloader=1, snp=2, microcode=0x47),
    report_data=bytes.fromhex("e0fd0bdb6aa4030a6ddea9073e1fcec5be6c782a2c8075a0825dfb3d9a81b924").ljust(64, b"\0"),
    measurement=bytes.fromhex(
        "f924dd18f168df60fbea937f0b086284d51b1b376de872bac43694f61134d57967c318018de7335503023dbb50dee624"
    ),
    report_id=bytes.fromhex("a5e6fb0b3a3da122dfe52f515cddba1d64ee123e3402546384f92ed7724c17b3"),
    chip_id=bytes.fromhex("3b42092f69c656d3").ljust(64, b"\0"),
    current_build=0x3D,
    committed_build=0x3D,
    launch_mitigation_vector=0,
    current_mitigation_vector=0,
)
REAL_TURIN_KEY = bytes.fromhex(
    "04156d336880cd1031a732a3ad66c4e3927de675d6ec38d798d1ab3892fa0a3506e5f97fa5a9747ab6a6e87703ea20fbf1"
    "fa624acdbf03addd16bd1657fabe466956559499113c6468794a13eddd0a69e0a1214282c2fa5bba233f38172e511a26"
)
REAL_TURIN_SIGNATURE = (
    0xFB9A3E29F9DD13E1E591A67185904CC4AFF709B6DAA97CB495790C256F3D1B972161055317E63953F5C1B5B19455F79B,
    0xE889BE779CC2CA4C9D73D9D721FA6879BF04B87A410E47EE1E7DF57C1E2AF6515E698A83830B9998B9AAD95165584714,
)
REAL_TURIN_SINCE = datetime(2025, 7, 17, 17, 4, 46, tzinfo=UTC)
REAL_TURIN_TBS = "cccfea94566a2450841b435e305921c287223a0bd9168d6774abb413f2620984"

real_machines = pytest.mark.parametrize(
    ("report", "point", "numbers", "since", "tbs"),
    [
        (REAL_GENOA, REAL_GENOA_KEY, REAL_GENOA_SIGNATURE, REAL_GENOA_SINCE, REAL_GENOA_TBS),
        (REAL_TURIN, REAL_TURIN_KEY, REAL_TURIN_SIGNATURE, REAL_TURIN_SINCE, REAL_TURIN_TBS),
    ],
    ids=["Genoa", "Turin"],
)


def load(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def extension_values(der: bytes) -> dict[str, bytes]:
    names = {dotted: name for name, dotted in EXTENSIONS.items()}
    return {
        names.get(extension.oid.dotted_string, extension.oid.dotted_string): extension.value.public_bytes()
        for extension in load(der).extensions
    }


def verify(report: bytes, key: ec.EllipticCurvePublicKey) -> None:
    r, s = (int.from_bytes(report[SIGNATURE_FIELDS[name]], "little") for name in ("r", "s"))
    key.verify(encode_dss_signature(r, s), report[:SIGNED_SIZE], ec.ECDSA(hashes.SHA384()))


@real_machines
def test_a_real_report_rebuilt_from_its_fields_is_still_signed_by_its_chip(
    report: Report, point: bytes, numbers: tuple[int, int], since: datetime, tbs: str
) -> None:
    verify(report.body() + signature(*numbers), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point))


@real_machines
def test_a_real_vcek_is_rebuilt_byte_for_byte(
    report: Report, point: bytes, numbers: tuple[int, int], since: datetime, tbs: str
) -> None:
    authority = AmdAuthority(report.product)
    until = since.replace(year=since.year + 7)
    certificate, key = authority.vcek(report.chip_id, report.reported_tcb, not_before=since, not_after=until)
    own = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    rebuilt = load(certificate).tbs_certificate_bytes.replace(own, point)
    assert hashlib.sha256(rebuilt).hexdigest() == tbs


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_chains_hold_up_to_the_root(product: str) -> None:
    authority = AmdAuthority(product)
    root, ask, asvk = load(authority.root), load(authority.ask), load(authority.asvk)
    root.verify_directly_issued_by(root)
    ask.verify_directly_issued_by(root)
    asvk.verify_directly_issued_by(root)
    load(authority.vcek()[0]).verify_directly_issued_by(ask)
    load(authority.vlek()[0]).verify_directly_issued_by(asvk)
    crl = x509.load_der_x509_crl(authority.crl())
    key = root.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert crl.is_signature_valid(key)
    for certificate in (root, ask, asvk):
        assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc


def test_the_root_is_the_same_each_time_in_one_process() -> None:
    assert AmdAuthority("Genoa").root == GENOA.root


def test_a_strangers_certificates_have_the_right_names_and_the_wrong_signatures() -> None:
    for certificate, issuer in (
        (STRANGER.ask, GENOA.root),
        (STRANGER.vcek()[0], GENOA.ask),
        (GENOA.vcek(issuer=STRANGER.issuer("ASK"))[0], GENOA.ask),
        (GENOA.ca("ASK", issuer=STRANGER.issuer("ARK")), GENOA.root),
    ):
        assert load(certificate).issuer == load(issuer).subject
        with pytest.raises(InvalidSignature):
            load(certificate).verify_directly_issued_by(load(issuer))


def test_a_vlek_names_its_provider_and_no_chip() -> None:
    certificate, key = GENOA.vlek("CN=somewhere.cloud.example")
    values = extension_values(certificate)
    assert values["csp_id"] == b"\x16\x1aCN=somewhere.cloud.example"
    assert "hwid" not in values
    assert Report(key_info=VLEK_SIGNED).body()[FIELDS["chip_id"]] == bytes(64)
    assert isinstance(key.curve, ec.SECP384R1)


def test_each_part_of_a_certificate_can_be_overridden() -> None:
    plain = extension_values(TURIN.vcek()[0])
    assert plain["fmc"] == b"\x02\x01\x01"
    assert plain["hwid"] == default_chip_id("Turin")[:8]
    key = ec.generate_private_key(ec.SECP256R1())
    wrapped = b"\x04\x08" + plain["hwid"]
    der, same = TURIN.vcek(
        tcb=replace(PRODUCTS["Turin"].tcb, microcode=0xC8),
        key=key,
        subject="SEV-VLEK",
        serial=7,
        issuer=Issuer("SEV-Genoa", GENOA.issuer("ASK").key),
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
        extensions={"fmc": None, "hwid": wrapped, "1.2.3": b"\x05\x00"},
    )
    certificate = load(der)
    certificate.verify_directly_issued_by(load(GENOA.ask))
    assert same is key
    assert certificate.public_key() == key.public_key()
    assert (certificate.serial_number, certificate.subject.rfc4514_string()[:11]) == (7, "CN=SEV-VLEK")
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=1)
    changed = {"microcode": b"\x02\x02\x00\xc8", "hwid": wrapped, "1.2.3": b"\x05\x00"}
    assert extension_values(der) == {**{name: value for name, value in plain.items() if name != "fmc"}, **changed}


def test_a_crl_lists_serial_numbers_even_zero() -> None:
    assert len(x509.load_der_x509_crl(GENOA.crl())) == 0
    crl = x509.load_der_x509_crl(GENOA.crl([0, PRODUCTS["Genoa"].serials["ASK"]], NOW, None))
    assert [entry.serial_number for entry in crl] == [0, 0x020002]
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW, None)


def test_the_fields_cover_every_signed_byte_once_at_their_published_offsets() -> None:
    ends = [0, *(where.stop for where in FIELDS.values())]
    assert [where.start for where in FIELDS.values()] == ends[:-1]
    assert ends[-1] == SIGNED_SIZE
    offsets = {
        "version": 0x000,
        "policy": 0x008,
        "vmpl": 0x030,
        "current_tcb": 0x038,
        "key_info": 0x048,
        "report_data": 0x050,
        "measurement": 0x090,
        "host_data": 0x0C0,
        "report_id_ma": 0x160,
        "reported_tcb": 0x180,
        "cpuid_family": 0x188,
        "chip_id": 0x1A0,
        "committed_tcb": 0x1E0,
        "launch_tcb": 0x1F0,
        "current_mitigation_vector": 0x200,
    }
    assert {name: FIELDS[name].start for name in offsets} == offsets


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_a_signed_report_verifies_and_agrees_with_its_vcek(product: str, version: int) -> None:
    certificate, key = AmdAuthority(product).vcek()
    report = Report(product=product, version=version).sign(key)
    assert len(report) == REPORT_SIZE
    verify(report, key.public_key())
    values = extension_values(certificate)
    assert report[FIELDS["chip_id"]] == values["hwid"].ljust(64, b"\0")
    assert report[FIELDS["reported_tcb"]][-1:] == values["microcode"][-1:]
    cpuid = PRODUCTS[product].cpuid if version >= 3 else (0, 0, 0)
    assert report[FIELDS["cpuid_family"].start : FIELDS["cpuid_stepping"].stop] == bytes(cpuid)


def test_a_patched_field_breaks_the_signature_and_signing_again_mends_it() -> None:
    _, key = GENOA.vcek()
    report = Report().sign(key)
    for name, where in FIELDS.items():
        flipped = patched(report, where, bytes([report[where.start] ^ 1]) + report[where][1:])
        assert flipped != report, name
        with pytest.raises(InvalidSignature):
            verify(flipped, key.public_key())
        verify(sign_report(flipped, key), key.public_key())
        assert sign_report(flipped, key)[where] == flipped[where]


def test_signature_numbers_may_be_out_of_range() -> None:
    assert signature(0, 0) == bytes(512)
    assert signature(2**576 - 1, 1) == b"\xff" * 72 + b"\x01" + bytes(439)


def test_a_report_refuses_values_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="report_data has 64 bytes"):
        Report(report_data=bytes(63)).body()
    with pytest.raises(ValueError, match="FMC"):
        Tcb(fmc=1).encode("Genoa")


def test_azure_evidence_binds_the_claims_the_quote_and_the_challenge() -> None:
    _, key = GENOA.vcek()
    evidence = azure_evidence(key, b"challenge")
    claims = runtime_claims()
    report = evidence.blob[32 : 32 + REPORT_SIZE]
    verify(report, key.public_key())
    assert len(evidence.blob) == BLOB_SIZE
    assert report[FIELDS["report_data"]] == hashlib.sha256(claims).digest() + bytes(32)
    fields = HclBlob(report=report, claims=claims).fields()
    assert evidence.blob[fields["claims"]] == claims
    assert json.loads(claims)["keys"][0] == jwk("HCLAkPub", "sign", tpm_key().public_key())
    quoted = Quote(extra_data=b"challenge").fields()
    assert evidence.quote[quoted["extra_data"]] == b"challenge"
    assert evidence.quote[quoted["pcr_digest"]] == hashlib.sha256(b"".join(evidence.pcrs)).digest()
    tpm_key().public_key().verify(evidence.quote_signature, evidence.quote, padding.PKCS1v15(), hashes.SHA256())


def test_the_azure_framing_is_that_of_published_evidence() -> None:
    """Values of confidential-containers/trustee, evidence-genoa.json (Apache-2.0): its claims have 1200 bytes."""
    blob = HclBlob(report=bytes(REPORT_SIZE), claims=b" " * 1200).encode()
    assert blob[:32] == bytes.fromhex("48434c410200000084090000 02000000").ljust(32, b"\0")
    assert blob[1216:1236] == bytes.fromhex("c4040000 01000000 02000000 01000000 b0040000")
    assert len(blob) == BLOB_SIZE
    quote = Quote(
        extra_data=bytes.fromhex(
            "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f"
        ),
        qualified_signer=bytes.fromhex("000bd74f064d3e649c2c9b6ea136cdb036a6fe9e95b8645f63e927b3248c3ac6ab2d"),
        pcr_digest=bytes.fromhex("2b30a66d715a7801b86d7912b710838bd3bd8d9aeec7c7135563f938cf8b3399"),
    )
    assert quote.encode() == bytes.fromhex(
        "ff54434780180022000bd74f064d3e649c2c9b6ea136cdb036a6fe9e95b8645f63e927b3248c3ac6ab2d0030"
        "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f"
        "00000000543d38fb000000350000000001202003120012000300000001000b03ffffff0020"
        "2b30a66d715a7801b86d7912b710838bd3bd8d9aeec7c7135563f938cf8b3399"
    )


def test_azure_parts_can_be_broken_one_at_a_time() -> None:
    assert json.loads(runtime_claims(user_data=b"\xab"))["user-data"] == "AB" + "00" * 63
    assert report_data(b"other")[:32] == hashlib.sha256(b"other").digest()
    right, wrong = Quote(extra_data=b"n"), Quote(extra_data=b"n", pcr_select=b"\x01\x00\x00")
    assert wrong.encode()[wrong.fields()["pcr_digest"]] == hashlib.sha256(right.pcrs[0]).digest()
    message = right.encode()
    with pytest.raises(InvalidSignature):
        tpm_key().public_key().verify(
            sign_quote(message, tpm_key("stranger")), message, padding.PKCS1v15(), hashes.SHA256()
        )
