"""A SEV-SNP machine is accepted as it stands; with one thing wrong, natively or under Azure, it is refused for that thing alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from attestation import errors
from attestation.appraisal.claims import GUEST_SYSTEM, PROVIDER_KEY
from attestation.appraisal.policy import DEFAULT_FLOORS, Weakening
from attestation.document import CpuType, EvidenceDocument
from attestation.errors import AttestationError
from attestation.parsing.snp import Product
from attestation.parsing.snp import Tcb as Level
from tests.attestation.authority import azure
from tests.attestation.authority.amd import (
    FIELDS,
    NOW,
    PRODUCTS,
    VLEK_SIGNED,
    AmdAuthority,
    Tcb,
    default_chip_id,
    patched,
)
from tests.attestation.machines import (
    KEYS,
    MEASUREMENT,
    Machine,
    amd_authority,
    amd_crl,
    azure_machine,
    roots,
    snp_machine,
    vcek,
    vlek,
)

GENOA, TURIN = amd_authority("Genoa"), amd_authority("Turin")
ACCEPTED = snp_machine()  # made here, RSA keys included, and not within a property, whose time is taken
SECOND = timedelta(seconds=1)
Make = Callable[[], Machine]
Refusal = type[AttestationError]


# --- What is accepted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("product", ["Genoa", "Turin"])
def test_accepts_genoa_and_turin_in_every_version_that_names_the_processor(product: str, version: int) -> None:
    claims = snp_machine(product, version=version).appraise()
    assert (claims.cpu.type, claims.cpu.product) == (CpuType.SEV_SNP, product)
    assert claims.cpu.chip == default_chip_id(product)
    assert claims.measurement == MEASUREMENT


def test_tells_the_level_that_the_chips_key_was_derived_for() -> None:
    assert snp_machine("Genoa").appraise().cpu.firmware == "bootloader 10, tee 0, snp 23, microcode 84"
    assert snp_machine("Turin").appraise().cpu.firmware == "bootloader 1, tee 1, snp 4, microcode 81, fmc 1"


def test_certificates_may_as_well_come_from_a_cache() -> None:
    bare = ACCEPTED.presenting(lambda document: replace(document, cpu=replace(document.cpu, certificates=())))
    assert bare.refusals() == [errors.MissingCollateral]
    assert bare.with_collateral(amd_certificates=ACCEPTED.evidence.cpu.certificates).refusals() == []


def test_certificates_may_stand_in_any_order() -> None:
    machine = snp_machine().presenting(
        lambda document: replace(document, cpu=replace(document.cpu, certificates=document.cpu.certificates[::-1]))
    )
    assert machine.refusals() == []


def test_under_a_providers_key_the_chip_stays_unproved_and_the_result_says_so() -> None:
    claims = provider_machine().appraise()
    assert claims.cpu.chip == bytes(64)
    assert PROVIDER_KEY in claims.not_proved
    assert PROVIDER_KEY not in snp_machine().appraise().not_proved


def test_a_launch_input_that_the_release_names_is_accepted() -> None:
    machine = snp_machine(host_data=bytes(range(32)))
    release = replace(machine.policy.releases[0], launch_data=bytes(range(32)))
    assert machine.refusals() == [errors.UnacceptedMeasurement]
    assert machine.under(releases=(release,)).refusals() == []
    assert snp_machine().under(releases=(release,)).refusals() == [errors.UnacceptedMeasurement]


def provider_machine(**report: Any) -> Machine:
    return snp_machine(
        endorsed=vlek(), chain=(GENOA.asvk, GENOA.root), **{"key_info": VLEK_SIGNED, **report}
    ).with_collateral(amd_crls=(amd_crl(),))


# --- What is refused ------------------------------------------------------------------------------------------------------


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def unsigned(machine: Machine, change: Callable[[bytes], bytes]) -> Machine:
    """The processor's report is changed after signing."""
    return machine.presenting(
        lambda document: replace(document, cpu=replace(document.cpu, report=change(document.cpu.report)))
    )


def with_certificates(*certificates: bytes) -> Machine:
    return snp_machine().presenting(
        lambda document: replace(document, cpu=replace(document.cpu, certificates=certificates))
    )


def at_level(**level: int) -> Machine:
    """Report and certificate agree on this level of Genoa."""
    tcb = replace(PRODUCTS["Genoa"].tcb, **level)
    return snp_machine(endorsed=GENOA.vcek(tcb=tcb), reported_tcb=tcb)


def stranger() -> Machine:
    """Everything as AMD would have it, under keys of somebody else."""
    someone = AmdAuthority("Genoa", owner="a stranger")
    machine = snp_machine(endorsed=someone.vcek(), chain=(someone.ask, someone.root))
    return machine.with_collateral(amd_crls=(someone.crl(),))


def stranger_under_amds_root() -> Machine:
    someone = AmdAuthority("Genoa", owner="a stranger")
    return snp_machine(endorsed=someone.vcek(), chain=(someone.ask, GENOA.root))


def of_another_product() -> Machine:
    """Genoa's root vouches for a certificate that says Turin."""
    name = asn1.encode_der(asn1.IA5String("Turin"))
    machine = snp_machine(endorsed=GENOA.vcek(key=vcek()[1], extensions={"product_name": name}))
    return replace(machine, roots=roots("Genoa", "Turin"))


def genoas_root_is_not_pinned() -> Machine:
    return replace(snp_machine(), roots=roots("Turin"))


def another_chips_certificate() -> Machine:
    return snp_machine(endorsed=GENOA.vcek(chip_id=b"\x07" * 64, key=vcek()[1]))


def old_certificate() -> Machine:
    return snp_machine(endorsed=GENOA.vcek(not_after=NOW - SECOND))


FLOOR = DEFAULT_FLOORS[Product.GENOA].snp
NATIVE: dict[str, tuple[Make, Refusal]] = {
    # what the bytes say
    "the report is cut": (lambda: unsigned(snp_machine(), lambda report: report[:-1]), errors.MalformedEvidence),
    "bytes follow the report": (
        lambda: unsigned(snp_machine(), lambda report: report + b"\0"),
        errors.MalformedEvidence,
    ),
    "reserved bytes are used": (
        lambda: snp_machine(body=lambda body: patched(body, FIELDS["reserved_208"], b"\1" + bytes(151))),
        errors.MalformedEvidence,
    ),
    "version 1": (lambda: snp_machine(version=1), errors.UnsupportedEvidence),
    "version 6": (lambda: snp_machine(version=6), errors.UnsupportedEvidence),
    "another signature algorithm": (lambda: snp_machine(signature_algo=2), errors.UnsupportedEvidence),
    "an unknown processor": (lambda: snp_machine(cpuid_family=0x1B), errors.UnsupportedEvidence),
    "a certificate is no certificate": (lambda: with_certificates(vcek()[0], b"0"), errors.MalformedCollateral),
    "no certificate of the chip": (lambda: with_certificates(GENOA.ask, GENOA.root), errors.MissingCollateral),
    # whether the hardware said it
    "no intermediate": (lambda: with_certificates(vcek()[0], GENOA.root), errors.UntrustedRoot),
    "no root": (lambda: with_certificates(vcek()[0], GENOA.ask), errors.UntrustedRoot),
    "a stranger under AMD's root": (stranger_under_amds_root, errors.BrokenChain),
    "the certificate names another product": (of_another_product, errors.EndorsementMismatch),
    "a bit of the report": (
        lambda: unsigned(snp_machine(), lambda report: flipped(report, FIELDS["family_id"].start)),
        errors.InvalidReportSignature,
    ),
    "a bit of r": (
        lambda: unsigned(snp_machine(), lambda report: flipped(report, 0x2A0)),
        errors.InvalidReportSignature,
    ),
    "another key": (
        lambda: snp_machine(endorsed=(vcek()[0], ec.generate_private_key(ec.SECP384R1()))),
        errors.InvalidReportSignature,
    ),
    "a key on another curve": (
        lambda: snp_machine(endorsed=GENOA.vcek(key=ec.generate_private_key(ec.SECP521R1()))),
        errors.InvalidReportSignature,
    ),
    "another chip's certificate": (another_chips_certificate, errors.EndorsementMismatch),
    "the processor of another product": (
        lambda: snp_machine(cpuid_family=0x1A, cpuid_model=2),
        errors.EndorsementMismatch,
    ),
    "a level that the key was not made for": (
        lambda: snp_machine(reported_tcb=replace(PRODUCTS["Genoa"].tcb, microcode=0x55)),
        errors.EndorsementMismatch,
    ),
    "a masked chip": (lambda: snp_machine(key_info=2, chip_id=bytes(64)), errors.EndorsementMismatch),
    "a masked chip that is named all the same": (lambda: snp_machine(key_info=2), errors.EndorsementMismatch),
    "a chip's certificate for a provider's report": (
        lambda: snp_machine(key_info=VLEK_SIGNED, chip_id=default_chip_id("Genoa")),
        errors.EndorsementMismatch,
    ),
    "a provider's certificate for a chip's report": (lambda: provider_machine(key_info=0), errors.EndorsementMismatch),
    "signed by no key": (lambda: snp_machine(key_info=7 << 2), errors.EndorsementMismatch),
    # whether we accept it
    "an expired certificate": (old_certificate, errors.CertificateOutOfDate),
    "a certificate of tomorrow": (
        lambda: snp_machine(endorsed=GENOA.vcek(not_before=NOW + SECOND)),
        errors.CertificateOutOfDate,
    ),
    "Milan": (lambda: snp_machine("Milan"), errors.UnacceptedProduct),
    "a report of Genoa in version 2": (lambda: snp_machine(version=2), errors.UnacceptedProduct),
    "debug": (lambda: snp_machine(policy=0x30000 | 1 << 19), errors.DebugEnabled),
    "a migration agent": (lambda: snp_machine(policy=0x30000 | 1 << 18), errors.UnacceptedGuestPolicy),
    "memory behind CXL": (lambda: snp_machine(policy=0x30000 | 1 << 21), errors.UnacceptedGuestPolicy),
    "bit 17 clear": (lambda: snp_machine(policy=0x10000), errors.UnacceptedGuestPolicy),
    "an unknown bit of the policy": (lambda: snp_machine(policy=0x30000 | 1 << 26), errors.UnacceptedGuestPolicy),
    "the highest bit of the policy": (lambda: snp_machine(policy=0x30000 | 1 << 63), errors.UnacceptedGuestPolicy),
    "asked for at VMPL 1": (lambda: snp_machine(vmpl=1), errors.UnacceptedGuestPolicy),
    "asked for by the host": (lambda: snp_machine(vmpl=0xFFFFFFFF), errors.UnacceptedGuestPolicy),
    "firmware below the floor": (lambda: at_level(snp=FLOOR - 1), errors.UnacceptedTcb),
    "firmware that can go below the floor": (
        lambda: snp_machine(committed_tcb=replace(PRODUCTS["Genoa"].tcb, snp=FLOOR - 1)),
        errors.UnacceptedTcb,
    ),
    "a chip that is not listed": (lambda: snp_machine().under(chips=frozenset({b"\x07" * 64})), errors.UnacceptedChip),
    "a provider's report under a list of chips": (
        lambda: provider_machine().under(chips=frozenset({default_chip_id("Genoa")})),
        errors.UnacceptedChip,
    ),
    "an unmeasured input of the host": (lambda: snp_machine(host_data=b"\1" * 32), errors.UnacceptedMeasurement),
    "other code": (lambda: snp_machine(measurement=b"\1" * 48), errors.UnacceptedMeasurement),
}


@pytest.mark.parametrize("fault", NATIVE)
def test_refuses_a_machine_with_one_fault_for_that_fault_alone(fault: str) -> None:
    make, refusal = NATIVE[fault]
    machine = make()
    assert machine.refusals() == [refusal]
    with pytest.raises(refusal):
        machine.appraise()


def test_a_stranger_with_all_of_amds_names_is_refused_and_has_no_say_about_revocation() -> None:
    for machine in (stranger(), stranger().with_collateral(amd_crls=(amd_crl(),)), genoas_root_is_not_pinned()):
        assert machine.refusals() == [errors.UntrustedRoot]
        assert "AMD has withdrawn none of them." not in {step.statement for step in machine.assess().steps}


def test_a_certificate_of_no_product_is_refused_even_where_the_report_names_none() -> None:
    name = asn1.encode_der(asn1.IA5String("Naples"))
    machine = snp_machine(version=2, endorsed=GENOA.vcek(key=vcek()[1], extensions={"product_name": name}))
    assert machine.refusals() == [errors.EndorsementMismatch, errors.EndorsementMismatch]
    assert machine.assess().steps[-1].subject != "binding"  # nothing rests on a product that nobody knows


def test_a_provider_whose_name_cannot_be_read_is_a_refusal_and_no_accident() -> None:
    key = vlek()[1]
    machine = snp_machine(
        endorsed=GENOA.vlek(key=key, extensions={"csp_id": b"no DER"}),
        chain=(GENOA.asvk, GENOA.root),
        key_info=VLEK_SIGNED,
    )
    assert machine.refusals() == [errors.EndorsementMismatch]


# --- The floor ------------------------------------------------------------------------------------------------------------


def test_firmware_at_the_floor_is_accepted() -> None:
    assert at_level(snp=FLOOR).refusals() == []
    assert snp_machine(committed_tcb=replace(PRODUCTS["Genoa"].tcb, snp=FLOOR)).refusals() == []


@pytest.mark.parametrize("part", ["bootloader", "tee", "snp", "microcode"])
def test_each_part_of_the_firmware_has_its_own_floor(part: str) -> None:
    machine = snp_machine()
    level = Level(bootloader=10, tee=0, snp=23, microcode=84)  # exactly Genoa's of this authority
    assert machine.under(floors={**DEFAULT_FLOORS, Product.GENOA: level}).refusals() == []
    higher = replace(level, **{part: getattr(level, part) + 1})
    assert machine.under(floors={**DEFAULT_FLOORS, Product.GENOA: higher}).refusals() == [errors.UnacceptedTcb]


def test_the_floor_of_one_product_says_nothing_about_another() -> None:
    level = Level(bootloader=255, tee=255, snp=255, microcode=255, fmc=255)
    assert snp_machine("Turin").under(floors={**DEFAULT_FLOORS, Product.GENOA: level}).refusals() == []
    turin = {**DEFAULT_FLOORS, Product.TURIN: Level(fmc=2)}
    assert snp_machine("Turin").under(floors=turin).refusals() == [errors.UnacceptedTcb]


levels = st.builds(Tcb, bootloader=st.integers(0, 255), tee=st.integers(0, 255), snp=st.integers(FLOOR, 255))


@given(levels)
def test_a_report_is_never_believed_about_a_level_that_the_certificate_does_not_have(level: Tcb) -> None:
    expected = [] if level == PRODUCTS["Genoa"].tcb else [errors.EndorsementMismatch]
    assert snp_machine(reported_tcb=level, committed_tcb=PRODUCTS["Genoa"].tcb).refusals() == expected


# --- AMD's list -----------------------------------------------------------------------------------------------------------


def listed(*crls: bytes) -> list[Refusal]:
    return snp_machine().with_collateral(amd_crls=crls).refusals()


def test_a_withdrawn_intermediate_is_refused() -> None:
    serial = PRODUCTS["Genoa"].serials["ASK"]
    assert listed(GENOA.crl(revoked=[serial])) == [errors.Revoked]
    assert listed(GENOA.crl(revoked=[serial + 1])) == []


def test_a_chip_is_never_withdrawn_by_its_serial_number_which_all_chips_share() -> None:
    assert listed(GENOA.crl(revoked=[0])) == []


def test_a_newer_list_hides_no_older_withdrawal_and_an_older_one_no_newer() -> None:
    withdrawn = GENOA.crl(revoked=[PRODUCTS["Genoa"].serials["ASK"]])
    for other in (amd_crl(), GENOA.crl(this_update=NOW - timedelta(days=1))):
        assert listed(withdrawn, other) == [errors.Revoked]
        assert listed(other, withdrawn) == [errors.Revoked]


def test_without_a_list_nothing_is_known() -> None:
    assert listed() == [errors.MissingCollateral]


def test_a_list_of_another_issuer_another_key_or_no_list_is_refused() -> None:
    assert listed(amd_crl("Turin")) == [errors.MissingCollateral]  # another product's is no concern of this one
    assert listed(GENOA.crl(issuer=replace(TURIN.issuer("ARK"), common_name="ARK-Genoa"))) == [errors.InvalidCollateral]
    assert listed(GENOA.crl(issuer=GENOA.issuer("ASK"))) == [errors.MissingCollateral]
    assert listed(b"no list") == [errors.MalformedCollateral]


def test_a_list_counts_from_five_minutes_before_its_date_to_its_last_second() -> None:
    since, until = NOW - timedelta(days=1), NOW + timedelta(days=1)
    machine = snp_machine().with_collateral(amd_crls=(GENOA.crl(this_update=since, next_update=until),))
    early = since - timedelta(minutes=5)
    assert machine.refusals(now=early) == []
    assert machine.refusals(now=early - SECOND) == [errors.StaleCollateral]
    assert machine.refusals(now=until) == []
    assert machine.refusals(now=until + SECOND) == [errors.StaleCollateral]


def test_of_several_lists_the_newest_has_to_be_fresh() -> None:
    old = GENOA.crl(this_update=NOW - timedelta(days=9), next_update=NOW - timedelta(days=2))
    assert listed(old) == [errors.StaleCollateral]
    assert listed(old, amd_crl()) == []
    assert listed(amd_crl(), old) == []


def test_a_list_without_an_end_stays() -> None:
    machine = snp_machine().with_collateral(amd_crls=(GENOA.crl(next_update=None),))
    assert machine.refusals(now=NOW + timedelta(days=1000)) == []


@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_either_end_of_the_calendar_is_a_time_to_judge_at(now: datetime) -> None:
    assert snp_machine().refusals(now=now) == [errors.CertificateOutOfDate, errors.StaleCollateral]


# --- Azure ----------------------------------------------------------------------------------------------------------------


def retold(machine: Machine, **tpm: Any) -> Machine:
    """The quote of the virtual TPM is changed after signing."""

    def change(document: EvidenceDocument) -> EvidenceDocument:
        assert document.cpu.tpm is not None
        return replace(document, cpu=replace(document.cpu, tpm=replace(document.cpu.tpm, **tpm)))

    return machine.presenting(change)


def other_pcr(number: int) -> tuple[bytes, ...]:
    return tuple(b"\1" * 32 if index == number else value for index, value in enumerate(azure.PCRS))


AZURE: dict[str, tuple[Make, Refusal]] = {
    "no report of Azure's": (lambda: unsigned(azure_machine(), lambda blob: blob[1:]), errors.MalformedEvidence),
    "a report of another hypervisor's kind": (
        lambda: unsigned(azure_machine(), lambda blob: blob.replace(b"\2\0\0\0\1\0\0\0", b"\4\0\0\0\1\0\0\0")),
        errors.UnsupportedEvidence,
    ),
    "bytes behind the claims": (
        lambda: unsigned(azure_machine(), lambda blob: blob[:-1] + b"\1"),
        errors.MalformedEvidence,
    ),
    "claims that the report does not commit to": (
        lambda: unsigned(azure_machine(), lambda blob: blob.replace(b'"tpm-enabled":true', b'"tpm-enabled":1   ')),
        errors.BindingMismatch,
    ),
    "a report that commits to more than the claims": (
        lambda: azure_machine(body=lambda body: patched(body, slice(0x8F, 0x90), b"\1")),
        errors.BindingMismatch,
    ),
    "user data of another guest": (lambda: azure_machine(user_data=bytes(64)), errors.BindingMismatch),
    "an answer to another challenge": (lambda: azure_machine(challenge=bytes(32)), errors.BindingMismatch),
    "no quote": (
        lambda: azure_machine().presenting(lambda document: replace(document, cpu=replace(document.cpu, tpm=None))),
        errors.InvalidTpmQuote,
    ),
    "a quote of another key": (
        lambda: retold(
            azure_machine(), signature=azure.sign_quote(quote(azure_machine()), azure.tpm_key("a stranger's"))
        ),
        errors.InvalidTpmQuote,
    ),
    "a quote that was changed": (
        lambda: retold(azure_machine(), message=flipped(quote(azure_machine()), 80)),
        errors.InvalidTpmQuote,
    ),
    "a quote that cannot be read": (lambda: retold(azure_machine(), message=b"\xff"), errors.MalformedEvidence),
    "registers that were not quoted": (lambda: retold(azure_machine(), pcrs=other_pcr(0)), errors.InvalidTpmQuote),
    "another register than the release's": (lambda: azure_machine(pcrs=other_pcr(11)), errors.UnacceptedMeasurement),
    "another layer of Microsoft's": (lambda: azure_machine(measurement=b"\1" * 48), errors.UnacceptedMeasurement),
    "secure boot off": (
        lambda: azure_machine(vm_configuration={**azure.VM_CONFIGURATION, "secure-boot": False}),
        errors.SecureBootOff,
    ),
    "debug": (lambda: azure_machine(policy=0x3001F | 1 << 19), errors.DebugEnabled),
    "Milan": (lambda: azure_machine("Milan"), errors.UnacceptedProduct),
}


def quote(machine: Machine) -> bytes:
    tpm = machine.evidence.cpu.tpm
    assert tpm is not None
    return tpm.message


@pytest.mark.parametrize("fault", AZURE)
def test_refuses_a_machine_on_azure_with_one_fault_for_that_fault_alone(fault: str) -> None:
    make, refusal = AZURE[fault]
    machine = make()
    assert machine.refusals() == [refusal]
    with pytest.raises(refusal):
        machine.appraise()


def test_accepts_a_machine_on_azure_and_says_what_its_report_leaves_out() -> None:
    claims = azure_machine().appraise()
    assert (claims.cpu.type, claims.cpu.product, claims.release) == (CpuType.SEV_SNP_AZURE, "Genoa", KEYS.release)
    assert GUEST_SYSTEM in claims.not_proved


def test_a_register_that_the_release_does_not_name_may_hold_anything() -> None:
    assert azure_machine(pcrs=other_pcr(7)).refusals() == []


def test_milan_is_accepted_by_name_only_and_then_in_version_2_too() -> None:
    for machine in (snp_machine("Milan"), snp_machine("Milan", version=2), azure_machine("Milan", version=2)):
        assert machine.refusals() == [errors.UnacceptedProduct]
        weak = machine.policy.weakened_by(Weakening.UNSAFE_ACCEPT_MILAN)
        assert "UnsafeAcceptMilan" in machine.appraise(policy=weak).weakenings


def test_a_providers_key_satisfies_no_list_of_chips() -> None:
    chip = snp_machine().appraise().cpu.chip
    machine = snp_machine(endorsed=vlek(), chain=(GENOA.asvk, GENOA.root), key_info=VLEK_SIGNED, chip_id=chip).under(
        chips=frozenset({chip})
    )
    assert machine.refusals() == [errors.UnacceptedChip]


def test_memory_that_was_not_checked_for_aliases_is_refused() -> None:
    assert snp_machine(platform_info=0x25 & ~(1 << 5)).refusals() == [errors.UnacceptedTcb]


def test_an_input_of_azures_host_has_to_be_named() -> None:
    machine = azure_machine(host_data=b"\1" * 32)
    assert machine.refusals() == [errors.UnacceptedMeasurement]
    release = replace(machine.policy.releases[0], launch_data=b"\1" * 32)
    assert machine.under(releases=(release,)).refusals() == []
