"""Certificates and collateral of somebody else: another chip's, another product's, or a stranger's with the same names."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import permutations
from typing import Any

from tests.attestation.authority import amd, intel, nvidia
from tests.attestation.authority.amd import PRODUCTS, AmdAuthority
from tests.attestation.machines import (
    Machine,
    amd_crl,
    device,
    gpu,
    intel_collateral,
    links,
    rim_signer,
    snp_machine,
    switch,
    tdx_machine,
    vcek,
    vlek,
)
from tests.attestation.mutations.families import (
    GENOA,
    INTEL,
    INTEL_BYTES,
    INTEL_CHAINS,
    INTEL_TEXTS,
    NVIDIA,
    TURIN,
    UNITS,
    Case,
    family,
    genoa,
    intel_part,
    on_azure,
    trust_domain,
    with_chain,
    with_cpu,
    with_devices,
    with_intel,
    with_item,
)


@cache
def strange_amd() -> AmdAuthority:
    """Somebody with AMD's names."""
    return AmdAuthority("Genoa", owner="a stranger")


@cache
def strange_nvidia() -> nvidia.NvidiaAuthority:
    """Somebody with NVIDIA's names."""
    return nvidia.NvidiaAuthority()


@cache
def strange_intel() -> intel.IntelAuthority:
    """Somebody with Intel's names."""
    return intel.IntelAuthority()


@family
def certificates_of_other_chips() -> Iterator[Case]:
    """Beside a native report and beside Azure's."""
    stranger = strange_amd()
    theirs, _ = stranger.vcek()
    another, _ = GENOA.vcek(chip_id=b"\7" * 64)
    lower, _ = GENOA.vcek(tcb=replace(PRODUCTS["Genoa"].tcb, snp=0x16))
    mine, ask, root = vcek()[0], GENOA.ask, GENOA.root
    chains: dict[str, Sequence[bytes]] = {
        "nothing": (),
        "another chip's": (another, ask, root),
        "another level's": (lower, ask, root),
        "another product's": (vcek("Turin")[0], TURIN.ask, TURIN.root),
        "another product's under this root": (vcek("Turin")[0], ask, root),
        "this chip's under another product": (mine, TURIN.ask, TURIN.root),
        "a provider's": (vlek()[0], GENOA.asvk, root),
        "a provider's under the chips' intermediate": (vlek()[0], ask, root),
        "a chip's under the providers' intermediate": (mine, GENOA.asvk, root),
        "a stranger's": (theirs, stranger.ask, stranger.root),
        "a stranger's leaf": (theirs, ask, root),
        "a stranger's leaf and intermediate": (theirs, stranger.ask, root),
        "a stranger's intermediate": (mine, stranger.ask, root),
        "a stranger's root": (mine, ask, stranger.root),
        "a stranger's root behind AMD's": (mine, ask, root, stranger.root),
        "a stranger's intermediate behind AMD's": (mine, ask, root, stranger.ask),
        "no intermediate": (mine, root),
        "no root": (mine, ask),
        "no leaf": (ask, root),
        "the root alone": (root,),
        "the leaf alone": (mine,),
        "another chip's first": (another, mine, ask, root),
        "a stranger's first": (theirs, mine, ask, root, stranger.ask, stranger.root),
    }
    for label, chain in chains.items():
        yield f"Genoa: {label}", partial(with_cpu, genoa, certificates=tuple(chain))
        yield f"Azure: {label}", partial(with_cpu, on_azure, certificates=tuple(chain))
    for label, issuer in {
        "AMD's root": replace(stranger.issuer("ARK"), common_name="ARK-Genoa"),
        "the intermediate": replace(stranger.issuer("ASK"), common_name="SEV-Genoa"),
        "the leaf itself": amd.Issuer("SEV-VCEK", stranger.issuer("ASK").key),
    }.items():
        yield f"issued in the name of {label}", partial(snp_machine, endorsed=GENOA.vcek(issuer=issuer))


@family
def certificates_of_other_devices() -> Iterator[Case]:
    """The processor signed for each of these chains."""
    for unit, made in UNITS.items():
        mine = made().device
        other, strange = device(mine.arch, 1), strange_nvidia().device(mine.arch)
        foreign = device("hopper" if mine.arch == "blackwell" else "blackwell", 0)
        chains: dict[str, Sequence[bytes]] = {
            "nothing": (),
            "another device's": other.chain,
            "another product's": foreign.chain,
            "another device's leaf": (other.chain[0], *mine.chain[1:]),
            "another device's certificate": (mine.chain[0], other.chain[1], *mine.chain[2:]),
            "a stranger's": strange.chain,
            "a stranger's with NVIDIA's root": (*strange.chain[:4], mine.chain[4]),
            "a stranger's leaf": (strange.chain[0], *mine.chain[1:]),
            "another product's provisioner": (*mine.chain[:2], *foreign.chain[2:]),
            "six certificates": (*mine.chain, mine.chain[4]),
            "the leaf twice": (mine.chain[0], *mine.chain[:4]),
            "the signers of manifests": (*mine.chain[:2], *rim_signer(mine.arch).chain[1:]),
            "the root of manifests": (*mine.chain[:4], NVIDIA.rim_root),
            **{f"{count} of them": mine.chain[:count] for count in range(1, 5)},
        }
        for label, chain in chains.items():
            yield f"{unit}: {label}", partial(with_chain, unit, chain)
        for order in permutations(range(5)):
            if sum(at != number for at, number in enumerate(order)) == 2:
                exchanged = [mine.chain[at] for at in order]
                yield f"{unit}: in the order {order}", partial(with_chain, unit, exchanged)
        broken = {
            "a leaf of another key": NVIDIA.device(mine.arch, leaf_signed_by=nvidia.new_key()),
            "a device that may not certify": NVIDIA.device(mine.arch, device_is_ca=False),
            "a leaf without early firmware": NVIDIA.device(mine.arch, dice=b""),
        }
        if unit != "LS10":  # the reports of switches name no firmware
            broken["a leaf of other early firmware"] = NVIDIA.device(mine.arch, certified_fwid=bytes(48))
        for label, one in broken.items():
            yield f"{unit}: {label}", partial(snp_machine, devices=[replace(made(), device=one)])


@family
def certificates_of_other_platforms() -> Iterator[Case]:
    """In the quote, which carries its chain."""
    stranger = strange_intel()
    mine = (INTEL.pck, INTEL.platform_ca, INTEL.root_ca)
    theirs = (stranger.pck, stranger.platform_ca, stranger.root_ca)
    other = INTEL.issue_pck(replace(INTEL.platform, ppid=bytes(16)))
    processor = intel.issue("Intel SGX PCK Processor CA", INTEL.root_ca, path_length=0)
    chains: dict[str, Sequence[intel.Issued]] = {
        "another platform's": (other, *mine[1:]),
        "the leaf alone": mine[:1],
        "no root": mine[:2],
        "no intermediate": (mine[0], mine[2]),
        "no leaf": mine[1:],
        "another intermediate": (mine[0], processor, mine[2]),
        "the signer of TCB information": (mine[0], INTEL.tcb_signing, mine[2]),
        "a stranger behind": (*mine, stranger.root_ca),
        **{
            f"a stranger's {mask:03b}": [(theirs if mask >> at & 1 else mine)[at] for at in range(3)]
            for mask in range(1, 8)
        },
        **{f"in the order {order}": [mine[at] for at in order] for order in list(permutations(range(3)))[1:]},
    }
    for label, chain in chains.items():
        yield label, partial(tdx_machine, chain=intel.pem_chain(*chain).encode())
    for label, pck in {"another platform's key": other, "a stranger's key": stranger.pck}.items():
        yield label, partial(tdx_machine, pck=pck, chain=intel.pem_chain(*mine).encode())
    named = intel.raw_public_key(INTEL.attestation_key)
    for label, key in {"an attestation key": intel.new_key(), "a stranger's": stranger.attestation_key}.items():
        yield f"{label} under the name of the true one", partial(tdx_machine, attestation_key=key, public_key=named)
        yield (
            f"{label} that the enclave did not make",
            partial(tdx_machine, attestation_key=key, qe_body=intel.qe_report(named)),
        )


@family
def collateral_of_amd() -> Iterator[Case]:
    """Revocation lists that are not AMD's, not for this chip, or against it."""
    serial = PRODUCTS["Genoa"].serials["ASK"]
    lists: dict[str, tuple[bytes, ...]] = {
        "none": (),
        "another product's": (amd_crl("Turin"),),
        "a stranger's": (strange_amd().crl(),),
        "a stranger's behind AMD's": (amd_crl(), strange_amd().crl()),
        "the intermediate's": (GENOA.crl(issuer=GENOA.issuer("ASK")),),
        "one with the intermediate on it": (GENOA.crl(revoked=[1, serial]),),
        "one with the intermediate on it, and one without": (GENOA.crl(revoked=[serial]), amd_crl()),
        "a certificate": (GENOA.root,),
        "nothing in it": (b"",),
    }
    for label, crls in lists.items():
        for name, make in {"Genoa": genoa, "Azure": on_azure}.items():
            yield f"{name}: {label}", partial(make().with_collateral, amd_crls=crls)
    yield "Turin with Genoa's", partial(snp_machine("Turin").with_collateral, amd_crls=(amd_crl(),))


def _judged(**word: Any) -> Machine:
    return trust_domain().with_collateral(intel=intel_collateral(**word))


@family
def collateral_of_intel() -> Iterator[Case]:
    """Parts that are a stranger's or missing, and words of Intel's against the platform."""
    theirs = strange_intel().collateral()
    for part in (*INTEL_BYTES, *INTEL_TEXTS, *INTEL_CHAINS):
        value: Any = bytes.fromhex(theirs[part]) if part in INTEL_BYTES else theirs[part]
        if value != intel_part(part) and part != "pck_crl_issuer_chain":  # see HARMLESS
            yield f"{part}: a stranger's", partial(with_intel, part, value)
        yield f"{part}: empty", partial(with_intel, part, type(value)())
    words: list[dict[str, Any]] = [
        {"fmspc": bytes(6)},
        {"status": "SWHardeningNeeded"},
        {"status": "ConfigurationNeeded"},
        {"status": "ConfigurationAndSWHardeningNeeded"},
        {"status": "OutOfDate"},
        {"status": "OutOfDateConfigurationNeeded"},
        {"status": "Revoked"},
        {"status": "uptodate"},
        {"qe_status": "OutOfDate"},
        {"qe_status": "Revoked"},
        {"module_status": "OutOfDate"},
        {"module_status": "Revoked"},
        {"levels": []},
        {"tcb_info": {"id": "SGX"}},
        {"tcb_info": {"version": 2}},
        {"tcb_info": {"tdxModuleIdentities": []}},
        {"tcb_info": {"tcbLevels": None}},
        {"qe_identity": {"id": "QE"}},
        {"qe_identity": {"isvprodid": 1}},
        {"qe_identity": {"mrsigner": "00" * 32}},
        {"qe_identity": {"tcbLevels": []}},
        {"qe_identity": {"miscselect": "00000001"}},
        {"revoked_by_platform_ca": [INTEL.pck.serial]},
        {"revoked_by_root": [INTEL.platform_ca.serial]},
        {"revoked_by_root": [INTEL.tcb_signing.serial]},
    ]
    for word in words:
        yield f"Intel says {word}", partial(_judged, **word)
    for label, signer in {
        "the intermediate": INTEL.platform_ca,
        "the platform": INTEL.pck,
        "a stranger": strange_intel().tcb_signing,
    }.items():
        yield f"signed by {label}", partial(_judged, tcb_signing=signer)


def without_item(part: str, number: int) -> Machine:
    """One item of the collateral is missing."""
    items = getattr(with_devices().collateral, part)
    return with_devices().with_collateral(**{part: (*items[:number], *items[number + 1 :])})


def _answer(_: bytes, link: tuple[bytes, bytes], answer: dict[str, Any]) -> bytes:
    return NVIDIA.ocsp(*link, **answer)


def _instead(_: bytes, made: Callable[[], bytes]) -> bytes:
    return made()


@family
def collateral_of_nvidia() -> Iterator[Case]:
    """Answers and manifests that are a stranger's, missing, or against the device."""
    answers: dict[str, dict[str, Any]] = {
        "revoked": {"status": "revoked"},
        "unknown": {"status": "unknown"},
        "a stranger's": {"responder": "stranger"},
        "nobody's": {"responder": "no_ocsp_signing"},
    }
    for number, link in enumerate(links([gpu(), switch()])):
        for label, answer in answers.items():
            change = partial(_answer, link=link, answer=answer)
            yield f"answer {number}: {label}", partial(with_item, with_devices, "ocsp_responses", number, change)
        yield f"answer {number}: missing", partial(without_item, "ocsp_responses", number)
    for number, _ in enumerate(with_devices().collateral.rims):
        yield f"manifest {number}: missing", partial(without_item, "rims", number)
    mine = rim_signer("hopper")
    strange = strange_nvidia().rim_signer()
    for number, kind in enumerate(nvidia.KINDS):
        manifests: dict[str, Callable[[], bytes]] = {
            "a stranger's": partial(strange_nvidia().rim, kind, signer=strange),
            "a stranger's under NVIDIA's chain": partial(
                NVIDIA.rim, kind, signer=replace(strange, chain=(strange.chain[0], *mine.chain[1:]))
            ),
            "a stranger's in the signer's name": partial(NVIDIA.rim, kind, signer=replace(mine, key=strange.key)),
            "a device's": partial(NVIDIA.rim, kind, signer=nvidia.Signer(gpu().device.key, gpu().device.chain)),
            "another family's": partial(NVIDIA.rim, kind, arch="blackwell", signer=rim_signer("blackwell")),
            "of another version": partial(NVIDIA.rim, kind, signer=mine, version="1"),
            "of other values": partial(NVIDIA.rim, kind, {7 if kind == "driver" else 1: (bytes(48),)}, signer=mine),
            "of no values": partial(NVIDIA.rim, kind, {}, signer=mine),
            "of the other's values": partial(
                NVIDIA.rim, kind, {**nvidia.golden("driver"), **nvidia.golden("vbios")}, signer=mine
            ),
        }
        for label, made in manifests.items():
            change_to = partial(_instead, made=made)
            yield f"manifest of {kind}: {label}", partial(with_item, with_devices, "rims", number, change_to)
