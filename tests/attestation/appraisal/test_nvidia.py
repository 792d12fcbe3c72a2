"""GPUs and switches are accepted as they stand; with one thing wrong a machine is refused for that thing alone."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import errors
from attestation.appraisal.claims import GPU_RELAY, GPU_STATE, NO_GPU, NVLINK, NotProved
from attestation.appraisal.grounds import Grounds
from attestation.appraisal.nvidia import VendorWord, appraise_manifest
from attestation.appraisal.trail import Trail
from attestation.document import DeviceType, EvidenceDocument
from attestation.errors import AttestationError
from attestation.verification.rim import SignedManifest
from tests.attestation.authority import nvidia
from tests.attestation.authority.nvidia import DRIVER, DRIVER_VERSION, FWID, NOW, NVDEC0, VBIOS
from tests.attestation.machines import (
    SAFE,
    Machine,
    Unit,
    answering,
    device,
    gpu,
    links,
    ocsp_answer,
    rim_signer,
    rims,
    snp_machine,
    switch,
)

SECOND = timedelta(seconds=1)
Make = Callable[[], Machine]
Refusal = type[AttestationError]
NVIDIA = nvidia.nvidia_authority()
GPU = device("hopper", 0)


def machine(*devices: Unit) -> Machine:
    return snp_machine(devices=devices or (gpu(),))


# --- What is accepted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "devices",
    [
        [gpu()],
        [gpu(arch="blackwell")],
        [gpu(), gpu(1), switch(), switch(1)],
        [switch(), gpu()],
        [switch()],
        [gpu(), gpu(arch="blackwell")],
    ],
)
def test_accepts_gpus_and_switches_in_any_order(devices: Sequence[Unit]) -> None:
    claims = machine(*devices).appraise()
    assert [claim.type for claim in claims.devices] == [unit.type for unit in devices]
    assert len({claim.id for claim in claims.devices}) == len(devices)


def test_tells_what_each_device_is_and_runs() -> None:
    hopper, nvswitch = machine(gpu(), switch()).appraise().devices
    assert (hopper.product, hopper.driver, hopper.vbios) == ("GH100", DRIVER_VERSION, "96.00.A5.00.01")
    assert (nvswitch.product, nvswitch.driver, nvswitch.vbios) == ("LS_10", "", "96.10.55.00.01")


def test_a_device_keeps_its_id_when_it_makes_itself_another_leaf() -> None:
    assert machine(gpu()).appraise().devices[0].id == machine(gpu(device=restarted(GPU))).appraise().devices[0].id


def test_any_of_the_published_digests_is_good() -> None:
    first = nvidia.golden("driver")[23][0]
    assert first != GPU.measurements()[23]
    assert machine(gpu(answer=answering(measurements={23: first}))).refusals() == []


def test_an_index_of_which_no_manifest_speaks_may_hold_anything() -> None:
    assert machine(gpu(answer=answering(measurements={41: b"\1" * 48, 50: b"\1" * 48}))).refusals() == []


def test_a_video_decoder_that_is_switched_off_is_not_compared() -> None:
    other = {35: b"\1" * 48}
    assert machine(gpu(answer=answering(measurements=other, changed={NVDEC0: b"\x55"}))).refusals() == []
    running = machine(gpu(answer=answering(measurements=other, changed={NVDEC0: b"\xaa"})))
    assert running.refusals() == [errors.UnacceptedDeviceFirmware]


def test_versions_of_the_policy_are_those_of_gpus() -> None:
    listed = machine(gpu(), switch())
    assert listed.under(drivers=frozenset({DRIVER_VERSION}), vbioses=frozenset({"96.00.A5.00.01"})).refusals() == []
    for field in ("drivers", "vbioses"):
        assert listed.under(**{field: frozenset({"1.0"})}).refusals() == [errors.UnacceptedDeviceFirmware]
        assert machine(switch()).under(**{field: frozenset({"1.0"})}).refusals() == []


def test_a_list_of_devices_accepts_these_and_no_others() -> None:
    ids = [claim.id for claim in machine(gpu(), switch()).appraise().devices]
    assert machine(gpu(), switch()).under(devices=frozenset(ids)).refusals() == []
    assert machine(gpu(), switch()).under(devices=frozenset(ids[:1])).refusals() == [errors.UnacceptedChip]
    assert machine(gpu(1)).under(devices=frozenset(ids)).refusals() == [errors.UnacceptedChip]


# --- What is not proved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ([gpu()], {GPU_RELAY, GPU_STATE}),
        ([gpu(), gpu(1)], {GPU_RELAY, GPU_STATE, NVLINK}),
        ([gpu(arch="blackwell"), gpu(1, arch="blackwell")], {GPU_RELAY, GPU_STATE}),
        ([gpu(), gpu(arch="blackwell")], {GPU_RELAY, GPU_STATE}),
        ([switch(), switch(1)], {NO_GPU}),
    ],
)
def test_says_what_devices_cannot_prove(devices: Sequence[Unit], told: set[NotProved]) -> None:
    not_proved = set(machine(*devices).appraise().not_proved)
    assert not_proved & {GPU_RELAY, GPU_STATE, NVLINK, NO_GPU} == told


def test_without_a_gpu_it_says_so() -> None:
    assert NO_GPU in snp_machine().appraise().not_proved


# --- What is refused ------------------------------------------------------------------------------------------------------


def restarted(one: nvidia.Device) -> nvidia.Device:
    """The same device after a start with other early firmware: a new leaf and key, under the same device certificate."""
    again = NVIDIA.device(one.arch)
    old = x509.load_der_x509_certificate(again.chain[0])
    identifiers = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
    leaf = nvidia.issue(
        NVIDIA._signers[one.chain[1]],
        old.subject,
        again.key,
        [(each.value, each.critical) for each in old.extensions if not isinstance(each.value, identifiers)],
        (old.not_valid_before_utc, old.not_valid_after_utc),
        serial=old.serial_number,
    )
    return replace(again, chain=leaf.chain)


def changed(made: Machine, index: int = 0, **parts: Any) -> Machine:
    """One device of the document is changed after the processor signed."""

    def change(document: EvidenceDocument) -> EvidenceDocument:
        devices = list(document.devices)
        devices[index] = replace(devices[index], **parts)
        return replace(document, devices=tuple(devices))

    return made.presenting(change)


def in_state(**state: bool) -> Machine:
    return machine(gpu(state=replace(SAFE, **state)))


def made(**device: Any) -> Machine:
    """A GPU that NVIDIA made in another way."""
    return machine(gpu(device=NVIDIA.device(**device)))


def answered(**report: Any) -> Machine:
    """A GPU whose report differs."""
    return machine(gpu(answer=answering(**report)))


def with_rims(*manifests: bytes) -> Machine:
    return machine().with_collateral(rims=manifests)


def signed_by(signer: nvidia.Signer, **rim: Any) -> Machine:
    """Both manifests come from another signer of NVIDIA's, about whom there are answers."""
    base = machine()
    return base.with_collateral(
        rims=tuple(NVIDIA.rim(kind, signer=signer, **rim) for kind in nvidia.KINDS),
        ocsp_responses=(*base.collateral.ocsp_responses, *(ocsp_answer(*link) for link in pairwise(signer.chain))),
    )


def without_answer(number: int) -> Machine:
    base = machine()
    answers = base.collateral.ocsp_responses
    return base.with_collateral(ocsp_responses=(*answers[:number], *answers[number + 1 :]))


def with_answer(number: int, **ocsp: Any) -> Machine:
    """One of NVIDIA's answers is another one."""
    base = machine()
    answers = list(base.collateral.ocsp_responses)
    answers[number] = NVIDIA.ocsp(*LINKS[number], **ocsp)
    return base.with_collateral(ocsp_responses=tuple(answers))


LINKS = links([gpu()])
DRIVER_RIM, VBIOS_RIM = rims("hopper")
STRANGER = nvidia.NvidiaAuthority()
STRANGE = STRANGER.device()
FAULTS: dict[str, tuple[Make, Refusal]] = {
    # what the bytes say
    "a cut report": (lambda: machine(gpu(answer=lambda one, nonce: one.report(nonce)[:-1])), errors.MalformedEvidence),
    "bytes behind the report": (lambda: answered(trailing=b"\0"), errors.MalformedEvidence),
    "an index twice": (lambda: answered(blocks=[*GPU.blocks(), GPU.blocks()[0]]), errors.MalformedEvidence),
    "a version that is no text": (lambda: answered(changed={DRIVER: b"\xff\xff"}), errors.MalformedEvidence),
    "a video decoder in no known state": (lambda: answered(changed={NVDEC0: b"\x56"}), errors.MalformedEvidence),
    "a certificate that is none": (
        lambda: machine(gpu(device=replace(GPU, chain=(*GPU.chain[:4], b"0")))),
        errors.MalformedCollateral,
    ),
    "collateral that cannot be read": (lambda: with_rims(b"<a"), errors.MalformedCollateral),
    "an answer that cannot be read": (
        lambda: machine().with_collateral(ocsp_responses=(b"0",)),
        errors.MalformedCollateral,
    ),
    # whether the hardware said it
    "no root": (lambda: machine(gpu(device=replace(GPU, chain=GPU.chain[:4]))), errors.BrokenChain),
    "a stranger": (lambda: machine(gpu(device=STRANGE)), errors.UntrustedRoot),
    "a stranger under NVIDIA's root": (
        lambda: machine(gpu(device=replace(STRANGE, chain=(*STRANGE.chain[:4], GPU.chain[4])))),
        errors.BrokenChain,
    ),
    "a leaf that the device did not sign": (lambda: made(leaf_signed_by=nvidia.new_key()), errors.BrokenChain),
    "a device that may not certify": (lambda: made(device_is_ca=False), errors.BrokenChain),
    "another key": (lambda: answered(key=nvidia.new_key()), errors.InvalidReportSignature),
    "a leaf of other early firmware": (lambda: made(certified_fwid=b"\1" * 48), errors.DeviceIdentityMismatch),
    "a leaf without early firmware": (lambda: made(dice=b""), errors.DeviceIdentityMismatch),
    "a report without early firmware": (lambda: answered(without=[FWID]), errors.DeviceIdentityMismatch),
    "a switch under another's number": (
        lambda: machine(switch(answer=answering(changed={nvidia.PDI: bytes(8)}))),
        errors.DeviceIdentityMismatch,
    ),
    "a replayed answer": (
        lambda: machine(gpu(answer=lambda one, _: one.report(bytes(32)))),
        errors.DeviceNonceMismatch,
    ),
    "a manifest by a stranger": (
        lambda: with_rims(DRIVER_RIM, STRANGER.rim("vbios")),
        errors.UntrustedRoot,
    ),
    "a manifest by somebody under NVIDIA's root": (
        lambda: signed_by(NVIDIA.rim_signer(signed_by=nvidia.new_key())),
        errors.BrokenChain,
    ),
    "a manifest that was edited": (
        lambda: with_rims(DRIVER_RIM, VBIOS_RIM.replace(b'edition="GPU"', b'edition="GPX"')),
        errors.InvalidReferenceValues,
    ),
    # whether we accept it
    "a device of yesterday": (lambda: made(life=(NOW - timedelta(days=2), NOW - SECOND)), errors.CertificateOutOfDate),
    "a device of tomorrow": (lambda: made(life=(NOW + SECOND, nvidia.FOREVER)), errors.CertificateOutOfDate),
    "a GPU as a switch": (lambda: machine(gpu(type=DeviceType.SWITCH)), errors.UnacceptedProduct),
    "a switch as a GPU": (lambda: machine(switch(type=DeviceType.GPU)), errors.UnacceptedProduct),
    "confidential mode off": (lambda: in_state(confidential=False), errors.UnsafeDeviceState),
    "developer tools on": (lambda: in_state(developer_tools=True), errors.UnsafeDeviceState),
    "no production environment": (lambda: in_state(production=False), errors.UnsafeDeviceState),
    "one GPU more": (lambda: machine(gpu(), gpu(1)).under(gpus=1), errors.UnexpectedDeviceCount),
    "one GPU less": (lambda: machine(gpu()).under(gpus=2), errors.UnexpectedDeviceCount),
    "no GPU where one is due": (lambda: snp_machine().under(gpus=1), errors.UnexpectedDeviceCount),
    "a switch too many": (lambda: machine(gpu(), switch()).under(switches=0), errors.UnexpectedDeviceCount),
    "a switch for a GPU": (lambda: machine(switch()).under(gpus=1, switches=0), errors.UnexpectedDeviceCount),
    "one GPU under its two nonces": (lambda: machine(gpu(), gpu()), errors.DuplicateDevice),
    "one GPU before and after a restart": (lambda: machine(gpu(), gpu(device=restarted(GPU))), errors.DuplicateDevice),
    "one switch twice": (lambda: machine(switch(), gpu(), switch()), errors.DuplicateDevice),
    "a measurement that NVIDIA never published": (
        lambda: answered(measurements={21: b"\1" * 48}),
        errors.UnacceptedDeviceFirmware,
    ),
    "a measurement that is not there": (
        lambda: answered(blocks=[block for block in GPU.blocks() if block[0] != 22]),
        errors.UnacceptedDeviceFirmware,
    ),
    "a manifest of nothing": (
        lambda: machine(switch()).with_collateral(
            rims=(NVIDIA.rim("vbios", {}, arch="ls10", signer=rim_signer("ls10")),)
        ),
        errors.UnacceptedDeviceFirmware,
    ),
    "a manifest of the VBIOS that says nothing": (
        lambda: with_rims(DRIVER_RIM, NVIDIA.rim("vbios", {}, signer=rim_signer("hopper"))),
        errors.UnacceptedDeviceFirmware,
    ),
    "an index of both manifests": (
        lambda: with_rims(
            DRIVER_RIM,
            NVIDIA.rim("vbios", {**nvidia.golden("vbios"), 7: nvidia.golden("driver")[7]}, signer=rim_signer("hopper")),
        ),
        errors.UnacceptedDeviceFirmware,
    ),
    "no manifests": (with_rims, errors.MissingCollateral),
    "no manifest of the driver": (lambda: with_rims(VBIOS_RIM), errors.MissingCollateral),
    "no manifest of the VBIOS": (lambda: with_rims(DRIVER_RIM), errors.MissingCollateral),
    "a driver without a manifest": (lambda: answered(changed={DRIVER: b"1.0\0"}), errors.MissingCollateral),
    "a GPU that names no driver": (lambda: answered(without=[DRIVER]), errors.MissingCollateral),
    "a VBIOS without a manifest": (
        lambda: answered(changed={VBIOS: nvidia.vbios_field("96.00.A5.00.02")}),
        errors.MissingCollateral,
    ),
    "a signer of manifests of yesterday": (
        lambda: signed_by(NVIDIA.rim_signer(life=(NOW - timedelta(days=9), NOW - SECOND))),
        errors.CertificateOutOfDate,
    ),
    **{
        f"no answer about {what}": ((lambda number=number: without_answer(number)), errors.MissingCollateral)  # type: ignore[misc]
        for number, what in enumerate(
            ("the device", "the provisioner", "the family", "the signer", "its issuer", "its CA")
        )
    },
    **{
        f"{what} is withdrawn": ((lambda number=number: with_answer(number, status="revoked")), errors.Revoked)  # type: ignore[misc]
        for number, what in enumerate(
            ("the device", "the provisioner", "the family", "the signer", "its issuer", "its CA")
        )
    },
    "a device that NVIDIA does not know": (lambda: with_answer(0, status="unknown"), errors.Revoked),
    "an answer of a stranger": (lambda: with_answer(0, responder="stranger"), errors.InvalidCollateral),
    "an answer of nobody appointed": (lambda: with_answer(0, responder="no_ocsp_signing"), errors.InvalidCollateral),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_a_machine_with_one_fault_for_that_fault_alone(fault: str) -> None:
    make, refusal = FAULTS[fault]
    refused = make()
    assert refused.refusals() == [refusal]
    with pytest.raises(refusal):
        refused.appraise()


def test_a_switch_that_borrows_the_certificates_of_a_gpu_fails_in_every_way() -> None:
    borrowed = machine(switch(device=replace(device("ls10", 0), chain=GPU.chain)))
    assert set(borrowed.refusals()) == {
        errors.InvalidReportSignature,
        errors.DeviceIdentityMismatch,
        errors.UnacceptedProduct,
        errors.MissingCollateral,
    }


def test_every_device_is_judged_although_one_before_it_failed() -> None:
    unsafe = replace(SAFE, confidential=False)
    steps = machine(gpu(state=unsafe), gpu(1, state=unsafe)).assess().steps
    assert [step.subject for step in steps if step.error is not None] == ["GPU 0", "GPU 1"]


def test_a_bad_manifest_is_named_for_each_device_that_needs_it() -> None:
    refused = machine(gpu(), gpu(1)).with_collateral(rims=(DRIVER_RIM,))
    assert refused.refusals() == [errors.MissingCollateral, errors.MissingCollateral]


# --- What the processor signs over ----------------------------------------------------------------------------------------


def test_devices_in_another_order_answer_each_others_challenge_and_are_not_what_the_processor_saw() -> None:
    turned = machine(gpu(), gpu(1)).presenting(lambda document: replace(document, devices=document.devices[::-1]))
    assert turned.refusals() == [errors.DeviceNonceMismatch, errors.DeviceNonceMismatch, errors.BindingMismatch]


def test_a_device_that_is_left_out_or_added_is_not_what_the_processor_saw() -> None:
    two = machine(gpu(), gpu(1))
    assert two.presenting(lambda document: replace(document, devices=document.devices[:1])).under(
        gpus=1
    ).refusals() == [errors.BindingMismatch]
    answered_too = two.evidence.devices
    one = machine(gpu()).presenting(lambda document: replace(document, devices=(*document.devices, answered_too[1])))
    assert one.with_collateral(**_parts(two)).under(gpus=2).refusals() == [errors.BindingMismatch]


def test_a_device_that_is_exchanged_for_another_genuine_one_is_not_what_the_processor_saw() -> None:
    other = machine(gpu(1))
    exchanged = machine(gpu(0)).presenting(lambda document: replace(document, devices=other.evidence.devices))
    assert exchanged.with_collateral(**_parts(other)).refusals() == [errors.BindingMismatch]


def test_a_state_that_is_talked_up_afterwards_is_not_what_the_processor_saw() -> None:
    assert changed(in_state(confidential=False), state=SAFE).refusals() == [errors.BindingMismatch]


def _parts(other: Machine) -> dict[str, Any]:
    return {"rims": other.collateral.rims, "ocsp_responses": other.collateral.ocsp_responses}


# --- NVIDIA's answers -----------------------------------------------------------------------------------------------------


def test_an_answer_counts_from_five_minutes_before_its_date_to_its_last_second() -> None:
    since, until = NOW - timedelta(hours=12), NOW + timedelta(hours=12)
    answer = with_answer(0, this_update=since, next_update=until)
    early = since - timedelta(minutes=5)
    others: dict[str, Any] = {"this_update": early, "next_update": until + SECOND}
    answer = answer.with_collateral(
        ocsp_responses=(answer.collateral.ocsp_responses[0], *(NVIDIA.ocsp(*link, **others) for link in LINKS[1:]))
    )
    assert answer.refusals(now=early) == []
    assert answer.refusals(now=early - SECOND) == [errors.StaleCollateral]
    assert answer.refusals(now=until) == []
    assert answer.refusals(now=until + SECOND) == [errors.StaleCollateral]


def test_an_answer_may_be_no_older_than_the_policy_says() -> None:
    old = with_answer(0, this_update=NOW - timedelta(days=3), next_update=None)
    assert old.under(collateral_age=timedelta(days=3)).refusals() == []
    assert old.under(collateral_age=timedelta(days=3) - SECOND).refusals() == [errors.StaleCollateral]


def test_the_newest_answer_counts_wherever_it_stands() -> None:
    good = machine().collateral.ocsp_responses
    withdrawn = NVIDIA.ocsp(*LINKS[0], status="revoked", this_update=NOW - timedelta(minutes=1))
    for answers in ((*good, withdrawn), (withdrawn, *good)):
        assert machine().with_collateral(ocsp_responses=answers).refusals() == [errors.Revoked]


# --- A manifest by itself -------------------------------------------------------------------------------------------------


def judge(rim: bytes) -> list[Refusal]:
    base = machine()
    word = VendorWord.read(Grounds(base.policy, base.collateral, base.roots, NOW))
    trail = Trail()
    appraise_manifest(trail, SignedManifest.parse(rim), word)
    return [type(step.error) for step in trail.steps if step.error is not None]


def test_a_manifest_can_be_judged_without_a_device() -> None:
    assert judge(DRIVER_RIM) == []
    assert judge(DRIVER_RIM.replace(b'edition="GPU"', b'edition="GPX"')) == [errors.InvalidReferenceValues]
    assert judge(STRANGER.rim("driver")) == [errors.UntrustedRoot, errors.MissingCollateral]
    old = NVIDIA.rim_signer(life=(NOW - timedelta(days=9), NOW - SECOND))
    assert judge(NVIDIA.rim("driver", signer=old)) == [errors.CertificateOutOfDate, errors.MissingCollateral]


def test_the_id_of_a_device_is_a_digest_of_the_key_that_it_was_made_with() -> None:
    key = x509.load_der_x509_certificate(GPU.chain[1]).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    assert machine().appraise().devices[0].id == digest


EVIL = hashlib.sha384(b"evil driver").digest()


def with_answers(machine: Machine, *units: Unit, **collateral: Any) -> Machine:
    """With OCSP answers for all chains of ``units`` as well."""
    answers = tuple(ocsp_answer(*link) for link in links([*units, gpu()]))
    return machine.with_collateral(ocsp_responses=answers, **collateral)


def test_a_manifest_of_another_product_says_nothing_although_it_is_of_the_same_version() -> None:
    blackwell = gpu(arch="blackwell")
    few = NVIDIA.rim("driver", {40: nvidia.golden("driver")[40]}, arch="blackwell", signer=rim_signer("blackwell"))
    evil = snp_machine(devices=[gpu(answer=answering(measurements={**GPU.measurements(), 7: EVIL}))])
    assert evil.refusals() == [errors.UnacceptedDeviceFirmware]
    driver, vbios = rims("hopper")
    for order in ((few, driver, vbios), (few, vbios)):
        refusals = with_answers(evil, blackwell, rims=order).refusals()
        assert refusals == [errors.UnacceptedDeviceFirmware if driver in order else errors.MissingCollateral]
    for order in ((few, driver, vbios), (driver, vbios, few)):
        assert with_answers(machine(), blackwell, rims=order).refusals() == []


def test_a_damaged_copy_of_a_manifest_hides_no_good_one() -> None:
    driver, vbios = rims("hopper")
    damaged = driver.replace(b"Measurement_7", b"Measurement_8")
    for order in ((damaged, driver, vbios), (driver, damaged, vbios)):
        assert machine().with_collateral(rims=order).refusals() == []
    assert machine().with_collateral(rims=(damaged, vbios)).refusals() == [errors.InvalidReferenceValues]


def test_the_key_of_a_device_signs_no_manifest_although_its_issuer_is_known_good() -> None:
    """A manifest's chain of two certificates is the same pair as a question to OCSP that was answered before."""
    device_signer = replace(NVIDIA.signer_of(GPU.chain[1]), chain=GPU.chain[1:3])
    golden = {**nvidia.golden("driver"), 7: (EVIL,)}
    forged = NVIDIA.rim("driver", golden, signer=device_signer)
    evil = snp_machine(devices=[gpu(answer=answering(measurements={**GPU.measurements(), 7: EVIL}))])
    assert evil.with_collateral(rims=(forged, rims("hopper")[1])).refusals() == [errors.UntrustedRoot]
