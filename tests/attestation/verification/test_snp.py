"""AMD's endorsement: a chain to the right product's root, a signature, and a certificate for this chip and this firmware."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import (
    BrokenChain,
    EndorsementMismatch,
    InvalidReportSignature,
    MissingCollateral,
    UntrustedRoot,
)
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.snp import Product, SnpReport, Tcb
from attestation.verification.roots import VENDOR_ROOTS
from attestation.verification.snp import (
    certified_tcb,
    endorsement_chain,
    named,
    provider,
    verify_endorsement,
    verify_report,
    verify_same_chip,
)
from tests.attestation.authority import amd
from tests.attestation.authority.amd import (
    CSP_ID,
    FIELDS,
    PRODUCTS,
    VLEK_SIGNED,
    AmdAuthority,
    Report,
    default_chip_id,
    patched,
    sign_report,
    signature,
)
from tests.attestation.vectors import entries

GENOA, TURIN, STRANGER = AmdAuthority("Genoa"), AmdAuthority("Turin"), AmdAuthority("Genoa", owner="stranger")
AUTHORITIES = {Product(name): AmdAuthority(name) for name in PRODUCTS}
ROOTS = {product: Certificate.parse(authority.root).sha256 for product, authority in AUTHORITIES.items()}
VCEK_DER, KEY = GENOA.vcek()
VCEK, VLEK = Certificate.parse(VCEK_DER), Certificate.parse(GENOA.vlek(key=KEY)[0])
ASK, ASVK, ARK = (Certificate.parse(der) for der in (GENOA.ask, GENOA.asvk, GENOA.root))


def vcek(**extensions: bytes | None) -> Certificate:
    """A chip's certificate with these extensions changed; ``None`` leaves one out."""
    return Certificate.parse(GENOA.vcek(key=KEY, extensions=extensions)[0])


def text(value: str) -> bytes:
    return asn1.encode_der(asn1.IA5String(value))


# --- The chain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", Product)
def test_a_chain_reaches_the_root_of_the_product_that_it_names(product: Product) -> None:
    authority = AUTHORITIES[product]
    for leaf, issuer in ((authority.vcek()[0], authority.ask), (authority.vlek()[0], authority.asvk)):
        pool = [Certificate.parse(der) for der in (authority.root, authority.ask, leaf, authority.asvk)]
        chain = endorsement_chain(pool)
        assert [certificate.der for certificate in chain] == [leaf, issuer, authority.root]
        assert verify_endorsement(chain, roots=ROOTS) is product


def test_the_first_endorsement_key_of_a_pool_is_taken() -> None:
    other = Certificate.parse(GENOA.vcek()[0])
    assert endorsement_chain([ARK, VCEK, ASK, other])[0] is VCEK
    assert endorsement_chain([other, VCEK]) == (other,)


def test_there_has_to_be_an_endorsement_key() -> None:
    for pool in ([], [ASK, ARK]):
        with pytest.raises(MissingCollateral):
            endorsement_chain(pool)


def test_refuses_a_chain_that_does_not_hold() -> None:
    stranger = [Certificate.parse(der) for der in (STRANGER.vcek()[0], STRANGER.ask, STRANGER.root)]
    with pytest.raises(UntrustedRoot):
        verify_endorsement(stranger, roots=ROOTS)
    for chain in ((stranger[0], ASK, ARK), (VLEK, ASK, ARK), (VCEK, ASVK, ARK), (VCEK, ARK)):
        with pytest.raises(BrokenChain):
            verify_endorsement(chain, roots=ROOTS)
    for part in ([VCEK], [VCEK, ASK], []):
        with pytest.raises(UntrustedRoot):
            verify_endorsement(part, roots=ROOTS)


def test_refuses_a_certificate_that_names_another_product_than_its_root() -> None:
    for name in ("Turin", "Milan-B0"):
        with pytest.raises(EndorsementMismatch):
            verify_endorsement((vcek(product_name=text(name)), ASK, ARK), roots=ROOTS)
    with pytest.raises(EndorsementMismatch):  # whose product has no root
        verify_endorsement((VCEK, ASK, ARK), roots={Product.TURIN: ROOTS[Product.GENOA]})


@pytest.mark.parametrize(
    ("name", "product"),
    [("Genoa", Product.GENOA), ("Milan-B0", Product.MILAN), ("Turin", Product.TURIN), ("Genoa-", Product.GENOA)],
)
def test_reads_the_product_with_and_without_a_stepping(name: str, product: Product) -> None:
    assert named(vcek(product_name=text(name))) is product


@pytest.mark.parametrize(
    "value",
    [None, b"", text(""), text("genoa"), text("Venice"), text("-Genoa"), b"\x0c\x05Genoa", b"\x16\x05\xc3\xa9noa"],
)
def test_refuses_products_that_it_does_not_know(value: bytes | None) -> None:
    with pytest.raises(EndorsementMismatch):
        named(vcek(product_name=value))


# --- The signature --------------------------------------------------------------------------------------------------------

REPORT = Report()
SIGNED = REPORT.sign(KEY)


def test_the_endorsed_key_signed_the_report() -> None:
    for endorsement in (VCEK, VLEK):
        verify_report(SnpReport.parse(SIGNED), endorsement)


@given(data=st.data())
def test_a_change_in_any_signed_field_breaks_the_signature(data: st.DataObject) -> None:
    free = [
        where for name, where in FIELDS.items() if not name.startswith(("reserved", "version", "signature", "cpuid"))
    ]
    where = data.draw(st.sampled_from(free))
    value = data.draw(st.binary(min_size=where.stop - where.start, max_size=where.stop - where.start))
    changed = patched(SIGNED, where, value)
    if changed != SIGNED:
        with pytest.raises(InvalidReportSignature):
            verify_report(SnpReport.parse(changed), VCEK)
        verify_report(SnpReport.parse(sign_report(changed, KEY)), VCEK)


def test_refuses_numbers_that_are_no_signature_and_keys_that_are_not_the_chips() -> None:
    for r, s in ((0, 0), (0, 1), (1, 0), (2**576 - 1, 2**576 - 1)):
        with pytest.raises(InvalidReportSignature):
            verify_report(SnpReport.parse(REPORT.body() + signature(r, s)), VCEK)
    for other in (Certificate.parse(GENOA.vcek()[0]), ASK):
        with pytest.raises(InvalidReportSignature):
            verify_report(SnpReport.parse(SIGNED), other)


# --- The same chip, and the same firmware ---------------------------------------------------------------------------------


def same_chip(report: Report, endorsement: Certificate = VCEK, product: Product = Product.GENOA) -> None:
    verify_same_chip(SnpReport.parse(report.body() + signature(1, 1)), endorsement, product)


@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("version", [2, 3, 5])
def test_a_report_and_the_certificate_of_its_chip_agree(product: Product, version: int) -> None:
    authority, report = AUTHORITIES[product], Report(product=product, version=version)
    same_chip(report, Certificate.parse(authority.vcek()[0]), product)
    same_chip(replace(report, key_info=VLEK_SIGNED), Certificate.parse(authority.vlek()[0]), product)


OTHER_CHIP = bytes(63) + b"\1"
OLDER = replace(PRODUCTS["Genoa"].tcb, microcode=1)
REPORTS: dict[str, Report] = {
    "another chip": replace(REPORT, chip_id=OTHER_CHIP),
    "a hidden chip": replace(REPORT, key_info=2, chip_id=bytes(64)),
    "a chip that says that it hides": replace(REPORT, key_info=2),
    "older firmware": replace(REPORT, reported_tcb=OLDER),
    "newer firmware": replace(REPORT, reported_tcb=replace(OLDER, microcode=255)),
    "the provider's key": replace(REPORT, key_info=VLEK_SIGNED, chip_id=default_chip_id("Genoa")),
    "no key": replace(REPORT, key_info=7 << 2),
    "an unknown key": replace(REPORT, key_info=2 << 2),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_refuses_a_report_that_names_something_else_than_its_certificate(report: Report) -> None:
    with pytest.raises(EndorsementMismatch):
        same_chip(report)


def test_refuses_a_report_of_another_product_that_has_the_same_layout() -> None:
    with pytest.raises(EndorsementMismatch):
        same_chip(replace(REPORT, cpuid_family=0x19, cpuid_model=0x01))  # Milan, in all else the certificate's chip


def test_refuses_a_report_of_another_product_whatever_its_version() -> None:
    for version in (2, 5):
        turin = Report(product="Turin", version=version)
        with pytest.raises(EndorsementMismatch):
            same_chip(turin)
        with pytest.raises(EndorsementMismatch):
            same_chip(REPORT, Certificate.parse(TURIN.vcek()[0]), Product.TURIN)


CERTIFICATES: dict[str, Mapping[str, bytes | None]] = {
    "no identifier of the chip": {"hwid": None},
    "an empty identifier": {"hwid": b""},
    "a shorter identifier": {"hwid": default_chip_id("Genoa")[:8]},
    "a longer identifier": {"hwid": default_chip_id("Genoa") + b"\0"},
    "a provider's identifier instead": {"hwid": None, "csp_id": text(CSP_ID)},
    "no level of a part": {"snp": None},
    "another level of a part": {"snp": b"\x02\x01\x01"},
    "a level of a part that the product has not": {"fmc": b"\x02\x01\x01"},
}


@pytest.mark.parametrize("extensions", CERTIFICATES.values(), ids=CERTIFICATES)
def test_refuses_a_certificate_that_was_not_made_for_the_report(extensions: Mapping[str, bytes | None]) -> None:
    with pytest.raises(EndorsementMismatch):
        same_chip(REPORT, vcek(**extensions))


def test_the_provider_key_belongs_to_no_chip_but_to_a_firmware_level() -> None:
    same_chip(replace(REPORT, key_info=VLEK_SIGNED), VLEK)
    for other in (replace(REPORT, key_info=0), replace(REPORT, key_info=VLEK_SIGNED, reported_tcb=OLDER)):
        with pytest.raises(EndorsementMismatch):
            same_chip(other, VLEK)


def test_a_chip_of_turin_has_eight_bytes_and_zeros_behind() -> None:
    certificate = Certificate.parse(TURIN.vcek()[0])
    same_chip(Report(product="Turin"), certificate, Product.TURIN)
    longer = default_chip_id("Turin")[:63] + b"\1"
    with pytest.raises(EndorsementMismatch):
        same_chip(Report(product="Turin", chip_id=longer), certificate, Product.TURIN)


@given(st.builds(amd.Tcb, **{part: st.integers(0, 255) for part in ("bootloader", "tee", "snp", "microcode")}))
def test_reads_the_levels_that_the_certificate_was_made_for(level: amd.Tcb) -> None:
    read = certified_tcb(Certificate.parse(GENOA.vcek(tcb=level, key=KEY)[0]))
    assert read == Tcb(bootloader=level.bootloader, tee=level.tee, snp=level.snp, microcode=level.microcode)


def test_reads_the_level_that_only_turin_has() -> None:
    level = replace(PRODUCTS["Turin"].tcb, fmc=7)
    assert certified_tcb(Certificate.parse(TURIN.vcek(tcb=level)[0])).fmc == 7


@pytest.mark.parametrize(
    "value", [b"", b"\x02\x00", b"\x02\x02\x00\x01", b"\x04\x01\x01", b"\x02\x01\x01\x00", b"\x01\x01\xff"]
)
def test_refuses_a_level_that_is_no_number(value: bytes) -> None:
    with pytest.raises(EndorsementMismatch):
        certified_tcb(vcek(snp=value))


def test_names_the_cloud_of_a_providers_key() -> None:
    assert (provider(VLEK), provider(VCEK)) == (CSP_ID, "")
    with pytest.raises(EndorsementMismatch):
        provider(vcek(csp_id=b"\x0c\x01a"))


@pytest.mark.parametrize("name", ["amd-milan-v2-virtee", "amd-genoa-v5-oak", "amd-turin-v5-oak", "amd-azure-genoa-v3"])
def test_recorded_reports_and_their_certificates_mean_the_same_chip(name: str) -> None:
    entry = entries()[name]
    files = entry.read_all("vcek") + entry.read_all("chain")
    ders = [der for data in files for der in (certificates_from_pem(data) if data.startswith(b"-----") else [data])]
    chain = endorsement_chain([Certificate.parse(der) for der in ders])
    report = SnpReport.parse(entry.read("report"))
    product = verify_endorsement(chain, roots=VENDOR_ROOTS.amd)
    assert product.lower() in name
    verify_report(report, chain[0])
    verify_same_chip(report, chain[0], product)
    with pytest.raises(EndorsementMismatch):
        verify_same_chip(replace(report, chip_id=OTHER_CHIP), chain[0], product)


@pytest.mark.parametrize("name", ["amd-milan-vcek-made-up-legacy", "amd-milan-vcek-made-up-new"])
def test_recorded_certificates_that_were_made_up_are_refused(name: str) -> None:
    entry = entries()[name]
    pool = [Certificate.parse(der) for der in [entry.read("vcek"), *certificates_from_pem(entry.read("chain"))]]
    chain, report = endorsement_chain(pool), SnpReport.parse(entry.read("report"))
    with pytest.raises(BrokenChain):
        verify_endorsement(chain, roots=VENDOR_ROOTS.amd)
    with pytest.raises(InvalidReportSignature):
        verify_report(report, chain[0])
    with pytest.raises(EndorsementMismatch):
        verify_same_chip(report, chain[0], Product.MILAN)
