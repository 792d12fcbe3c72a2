"""Claims say what was proved, and just as plainly what was not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation import errors
from attestation.appraisal import claims as told
from attestation.appraisal.claims import NotProved
from attestation.appraisal.policy import Weakening
from attestation.document import CpuType
from attestation.errors import MissingCollateral
from tests.attestation.authority.amd import default_chip_id
from tests.attestation.authority.intel import PLATFORM
from tests.attestation.machines import (
    KEYS,
    SIMULATED_MEASUREMENT,
    Machine,
    azure_machine,
    dstack_log,
    gpu,
    simulated_machine,
    snp_machine,
    tdx_machine,
)

MACHINES: dict[str, tuple[Callable[[], Machine], list[NotProved]]] = {
    "SEV-SNP": (snp_machine, [told.PHYSICAL, told.ANY_CHIP, told.NO_GPU]),
    "SEV-SNP of a listed chip": (
        lambda: snp_machine().under(chips=frozenset({default_chip_id("Genoa")})),
        [told.PHYSICAL, told.NO_GPU],
    ),
    "SEV-SNP with GPUs": (
        lambda: snp_machine(devices=[gpu(), gpu(1)]),
        [told.PHYSICAL, told.ANY_CHIP, told.GPU_RELAY, told.GPU_STATE, told.NVLINK],
    ),
    "Azure": (azure_machine, [told.GUEST_SYSTEM, told.PHYSICAL, told.ANY_CHIP, told.NO_GPU]),
    "TDX": (tdx_machine, [told.PHYSICAL, told.ANY_CHIP, told.NO_GPU]),
    "TDX of a listed platform": (
        lambda: tdx_machine().under(chips=frozenset({PLATFORM.platform_instance_id})),
        [told.PHYSICAL, told.NO_GPU],
    ),
    "TDX under dstack": (
        lambda: tdx_machine(runtime=dstack_log()),
        [told.RUNTIME_EVENTS, told.PHYSICAL, told.ANY_CHIP, told.NO_GPU],
    ),
    "simulated": (simulated_machine, [told.SIMULATION, told.PHYSICAL, told.ANY_CHIP, told.NO_GPU]),
}


@pytest.mark.parametrize("name", MACHINES)
def test_says_what_is_not_proved_the_gravest_first(name: str) -> None:
    make, expected = MACHINES[name]
    assert list(make().appraise().not_proved) == [*expected, told.CODE, told.SIDE_CHANNELS, told.TIME]


def test_what_is_not_proved_is_said_to_people() -> None:
    everything = [value for value in vars(told).values() if isinstance(value, NotProved)]
    assert len({item.name for item in everything}) == len(everything) == 13
    assert all(item.text.endswith(".") and len(item.text) > 40 for item in everything)


def test_the_keys_are_those_of_the_document() -> None:
    claims = snp_machine().appraise()
    assert (claims.identity_key, claims.receipt_key, claims.release) == (
        KEYS.identity_key,
        KEYS.receipt_key,
        KEYS.release,
    )


def test_every_check_is_listed_in_order_in_plain_words() -> None:
    assert snp_machine(devices=[gpu()]).appraise().checks == (
        "policy: The policy may be used now.",
        "document: It is an evidence document, canonically encoded.",
        "processor: It is a SEV-SNP report.",
        "processor: Its certificates can be read.",
        "processor: The certificate of the chip's key is there.",
        "processor: AMD vouches for the chip's key.",
        "processor: The chip's key signed the report.",
        "processor: Report and certificate mean the same chip and firmware.",
        "processor: All certificates are valid now.",
        "processor: AMD has withdrawn none of them.",
        "processor: The product is accepted.",
        "processor: The host may not debug the guest.",
        "processor: The guest was started under safe rules.",
        "processor: The firmware is at or above the floor.",
        "processor: The memory was checked for aliases.",
        "processor: The chip is accepted.",
        "processor: Whose key it is can be read.",
        "devices: NVIDIA's collateral can be read.",
        "GPU 0: It is a report of a GPU or switch.",
        "GPU 0: Its five certificates can be read.",
        "GPU 0: Its certificate names its product.",
        "GPU 0: NVIDIA vouches for the device.",
        "GPU 0: The device's key signed the report.",
        "GPU 0: The key belongs to the reported firmware.",
        "GPU 0: It answered the challenge derived for it.",
        "GPU 0: All certificates are valid now.",
        "GPU 0: NVIDIA has withdrawn none of them.",
        "GPU 0: It is what the document says it is.",
        "GPU 0: It is in confidential mode.",
        "GPU 0: Its versions are accepted.",
        "GPU 0: It runs what NVIDIA published.",
        "GPU 0: The device is accepted.",
        "devices: All devices are distinct.",
        "devices: There are as many as expected.",
        "binding: The processor speaks for the nonce, these keys and these devices.",
        "code: The code is an accepted release.",
    )


def test_a_step_tells_what_it_found() -> None:
    found = {step.statement: step.detail for step in snp_machine(devices=[gpu()]).assess().steps}
    assert found["The product is accepted."] == "Genoa"
    assert found["The firmware is at or above the floor."] == "bootloader 10, tee 0, snp 23, microcode 84"
    assert found["The chip is accepted."] == "any: the policy has no list of chips"
    assert found["The device is accepted."] == "any: the policy has no list of devices"
    assert found["It is in confidential mode."] == "as the attested code read it from the driver"
    assert found["Its versions are accepted."] == "driver 590.12, VBIOS 96.00.A5.00.01"
    assert found["It runs what NVIDIA published."] == "32 measurements"
    assert found["There are as many as expected."] == "1 GPUs, 0 switches"
    assert found["The code is an accepted release."] == KEYS.release


def test_a_refusal_gives_no_claims_but_all_steps() -> None:
    appraisal = snp_machine(policy=1 << 19 | 0x30000, vmpl=1).assess()
    assert [type(error) for error in appraisal.errors] == [errors.DebugEnabled, errors.UnacceptedGuestPolicy]
    with pytest.raises(errors.DebugEnabled):
        appraisal.claims()
    assert len(appraisal.steps) == len(snp_machine().assess().steps)


def test_evidence_is_genuine_if_policy_alone_refuses_it() -> None:
    assert snp_machine().assess().genuine
    assert snp_machine(policy=1 << 19 | 0x30000).assess().genuine
    assert not snp_machine().assess(nonce=bytes(32)).genuine
    assert not snp_machine().assess(document=b"{}").genuine


def test_a_simulation_is_never_genuine() -> None:
    machine = simulated_machine()
    claims = machine.appraise()
    assert claims.simulated
    assert (claims.cpu.type, claims.measurement, claims.cpu.chip) == (CpuType.SIMULATED, SIMULATED_MEASUREMENT, b"")
    assert not machine.assess().genuine
    assert not snp_machine().appraise().simulated


@pytest.mark.parametrize("weakening", Weakening)
def test_every_exception_of_the_policy_stands_in_the_result_whether_it_was_needed_or_not(weakening: Weakening) -> None:
    machine = snp_machine()
    appraisal = machine.assess(policy=machine.policy.weakened_by(weakening))
    assert appraisal.weakenings == appraisal.claims().weakenings == (weakening, "UnsafeTrustOtherRoots")


def test_claims_are_not_shown_by_accident() -> None:
    assert "identity_key" not in repr(snp_machine().assess())


def test_what_could_not_be_checked_is_not_genuine() -> None:
    """Without a certificate no signature was looked at: that is a refusal by policy, and still nothing was shown."""
    machine = snp_machine()
    bare = machine.presenting(lambda document: replace(document, cpu=replace(document.cpu, certificates=())))
    appraisal = bare.assess()
    assert [type(error) for error in appraisal.errors] == [MissingCollateral]
    assert not appraisal.genuine
