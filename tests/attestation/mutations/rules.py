"""What genuine hardware truly signed, and a strict policy does not accept: rules, levels, measurements, and sets of devices."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

from attestation.document import DeviceType
from tests.attestation.authority import amd, azure, intel, nvidia
from tests.attestation.authority.amd import PRODUCTS
from tests.attestation.machines import (
    NONCE,
    SAFE,
    Machine,
    Unit,
    answering,
    azure_machine,
    device,
    gpu,
    snp_machine,
    switch,
    tdx_machine,
)
from tests.attestation.mutations.families import GENOA, INTEL, UNITS, Case, Make, family, lenient


@family
def rules_that_weaken_the_guest() -> Iterator[Case]:
    """Every bit of the guest's rules that is dangerous or unknown."""
    for bit in (18, 19, 21, *range(26, 64)):
        yield f"Genoa: policy bit {bit}", partial(snp_machine, policy=0x30000 | 1 << bit)
    yield "Genoa: policy bit 17 clear", partial(snp_machine, policy=0x10000)
    for bit in (18, 19, 21, 26, 63):
        yield f"Azure: policy bit {bit}", partial(azure_machine, policy=0x3001F | 1 << bit)
    for vmpl in (1, 2, 3, 4, 0xFFFFFFFF):
        yield f"Genoa: VMPL {vmpl}", partial(snp_machine, vmpl=vmpl)
    for key in (1 << 1, *(number << 2 for number in range(1, 8))):
        yield f"Genoa: key information {key}", partial(snp_machine, key_info=key, chip_id=amd.default_chip_id("Genoa"))
    for bit in (*range(28), 29, *range(32, 64)):
        bits = (1 << 28 | 1 << bit).to_bytes(8, "little")
        yield f"TDX: attribute {bit}", partial(tdx_machine, td_attributes=bits)
    yield "TDX: attribute 28 clear", partial(tdx_machine, td_attributes=bytes(8))
    configurations: list[dict[str, object]] = [{"secure-boot": False}, {"secure-boot": "true"}, {"secure-boot": 1}]
    for other in configurations:
        configuration = {**azure.VM_CONFIGURATION, **other}
        yield f"Azure: {other}", partial(azure_machine, vm_configuration=configuration)


@family
def measurements_that_no_release_has() -> Iterator[Case]:
    """Every register that a release names, and every one that has to be empty."""
    for name, size in {"measurement": 48, "host_data": 32, "report_data": 64}.items():
        for at in (0, size // 2, size - 1):
            changed: dict[str, Any] = {name: bytes(at) + b"\1" + bytes(size - at - 1)}
            yield f"Genoa: {name}, byte {at}", partial(snp_machine, **changed)
            if name != "host_data":  # there it is Microsoft's layer that is started with it
                yield f"Azure: {name}, byte {at}", partial(azure_machine, **changed)
    for name in ("mr_td", "mr_config_id", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data"):
        size = 64 if name == "report_data" else 48
        for at in (0, size // 2, size - 1):
            changed = {name: bytes(at) + b"\1" + bytes(size - at - 1)}
            yield f"TDX: {name}, byte {at}", partial(tdx_machine, **changed)
    for number in (4, 11):
        pcrs = tuple(b"\1" * 32 if index == number else value for index, value in enumerate(azure.PCRS))
        yield f"Azure: register {number}", partial(azure_machine, pcrs=pcrs)
    yield "Azure: other user data", partial(azure_machine, user_data=bytes(64))
    yield "Azure: another challenge", partial(azure_machine, challenge=bytes(32))
    yield "Azure: no challenge", partial(azure_machine, challenge=b"")


@family
def levels_that_the_certificate_does_not_have() -> Iterator[Case]:
    """Firmware that is pretended to be newer, or truly older than it may be."""
    machines: dict[str, Callable[..., Machine]] = {
        "Genoa": snp_machine,
        "Turin": partial(snp_machine, "Turin"),
        "Azure": azure_machine,
    }
    for name, make in machines.items():
        tcb = PRODUCTS["Turin" if name == "Turin" else "Genoa"].tcb
        for part in ("bootloader", "tee", "snp", "microcode", *(("fmc",) if name == "Turin" else ())):
            level = getattr(tcb, part)
            for other in sorted({0, 1, level - 1, level + 1, level + 16, 0x80, 0xFF} - {level, -1}):
                claimed = replace(tcb, **{part: other})
                yield f"{name}: {part} {other} for {level}", partial(make, reported_tcb=claimed, committed_tcb=tcb)
    for snp in range(0x17):
        lower = replace(PRODUCTS["Genoa"].tcb, snp=snp)
        yield f"Genoa: committed to {snp}", partial(snp_machine, committed_tcb=lower)
        yield f"Genoa: truly at {snp}", partial(_truly_at, lower)
    for at, svn in enumerate(INTEL.platform.sgx_svns):
        if svn:
            svns = (*INTEL.platform.sgx_svns[:at], 0, *INTEL.platform.sgx_svns[at + 1 :])
            older = INTEL.issue_pck(replace(INTEL.platform, sgx_svns=svns))
            yield f"TDX: component {at} at 0", partial(tdx_machine, pck=older)
    for pce in range(11):
        yield f"TDX: PCE {pce}", partial(tdx_machine, pck=INTEL.issue_pck(replace(INTEL.platform, pce_svn=pce)))
    for levels in ([0, 0, 0], [3, 1, 3], [6, 1, 1], [6, 9, 3]):
        yield f"TDX: module {levels}", partial(tdx_machine, tee_tcb_svn=bytes(levels) + bytes(13))
    key = intel.raw_public_key(INTEL.attestation_key)
    for name, value in {
        "isv_svn": bytes([3, 0]),
        "isv_prod_id": bytes([1, 0]),
        "mr_signer": bytes(32),
        "attributes": bytes.fromhex("1700000000000000e700000000000000"),  # debug
        "misc_select": b"\1\0\0\0",
    }.items():
        fields: dict[str, Any] = {name: value}
        yield f"TDX: quoting enclave, {name}", partial(tdx_machine, qe_body=intel.qe_report(key, **fields))
    for name in ("mr_signer_seam", "seam_attributes"):
        fields = {name: b"\1" * (48 if name == "mr_signer_seam" else 8)}
        yield f"TDX: module, {name}", partial(tdx_machine, **fields)


def _truly_at(level: amd.Tcb) -> Machine:
    return snp_machine(endorsed=GENOA.vcek(tcb=level), reported_tcb=level)


def _machine(*devices: Unit) -> Make:
    return partial(snp_machine, devices=devices)


def _set(*devices: Unit) -> Make:
    return lambda: lenient(snp_machine(devices=devices))


@family
def devices_that_are_shown_twice_or_not_at_all() -> Iterator[Case]:
    """The processor signed for each of these sets, except where it says otherwise; NVIDIA's word is not asked for."""
    blackwell = gpu(arch="blackwell")
    sets = {
        "one GPU twice": [gpu(), gpu()],
        "one GPU three times": [gpu(), gpu(), gpu()],
        "one of two GPUs twice": [gpu(), gpu(1), gpu()],
        "one switch twice": [switch(), switch()],
        "one switch twice beside a GPU": [switch(), gpu(), switch()],
        "one Blackwell GPU twice": [blackwell, blackwell],
        "one GPU as a GPU and as a switch": [gpu(), gpu(type=DeviceType.SWITCH)],
    }
    for label, devices in sets.items():
        yield label, _set(*devices)
    whole = _set(gpu(), gpu(1), switch(), switch(1))
    for order in list(permutations(range(4)))[1:]:
        yield f"in the order {order}, afterwards", partial(_arranged, whole, order)
    for count in range(4):
        yield f"the first {count}, afterwards", partial(_arranged, whole, range(count))
    for twice in ((0, 0, 2, 3), (0, 1, 1, 1), (0, 1, 2, 3, 3)):
        yield f"{twice}, afterwards", partial(_arranged, whole, twice)
    for gpus, switches in ((0, 0), (1, 2), (2, 1), (3, 2), (2, 3), (0, 4), (4, 0)):
        yield f"{gpus} GPUs and {switches} switches expected", partial(_expecting, whole, gpus, switches)
    yield "a GPU where none is expected", partial(_expecting, _set(gpu()), 0, 0)
    yield "a switch for a GPU", partial(_expecting, _set(switch()), 1, 0)


def _expecting(make: Make, gpus: int, switches: int) -> Machine:
    return make().under(gpus=gpus, switches=switches)


def _arranged(make: Make, order: Iterable[int]) -> Machine:
    """These devices of a machine's document, in this order, under a policy that expects so many."""
    made = make()
    shown = tuple(made.evidence.devices[at] for at in order)
    gpus = sum(each.type is DeviceType.GPU for each in shown)
    return made.presenting(lambda document: replace(document, devices=shown)).under(
        gpus=gpus, switches=len(shown) - gpus
    )


@family
def devices_that_are_not_what_they_should_be() -> Iterator[Case]:
    """Genuine devices in another mode, with another answer, or with other firmware; the processor signed for each."""
    for unit, made in UNITS.items():
        kind = DeviceType.GPU if made().type is DeviceType.SWITCH else DeviceType.SWITCH
        yield f"{unit} as another kind", _machine(replace(made(), type=kind))
        for flag in ("confidential", "developer_tools", "production"):
            state = replace(SAFE, **{flag: not getattr(SAFE, flag)})
            yield f"{unit}: {flag}", _machine(replace(made(), state=state))
        for nonce in (bytes(32), NONCE, NONCE[::-1]):
            yield f"{unit}: an answer to {nonce.hex()}", _machine(replace(made(), answer=partial(_replayed, nonce)))
    known = device("hopper", 0).measurements()
    published = {index: digests for kind in nvidia.KINDS for index, digests in nvidia.golden(kind).items()}
    for index in published:
        for digest in sorted({bytes(48), b"\1" * 48, known[(index + 1) % 64]}):
            if digest not in published[index] and index != 35:  # 35 is the video decoder's, which is off
                yield (
                    f"measurement {index}: {digest[:4].hex()}",
                    _machine(gpu(answer=answering(measurements={index: digest}))),
                )
    values: dict[int, bytes] = {3: b"1.0\0", 6: nvidia.vbios_field("96.00.A5.00.02"), 11: b"\x56", 20: bytes(48)}
    for field, value in values.items():
        yield f"field {field}", _machine(gpu(answer=answering(changed={field: value})))
    for field in (3, 6, 20):
        yield f"no field {field}", _machine(gpu(answer=answering(without=[field])))


def _replayed(nonce: bytes, one: nvidia.Device, _: bytes) -> bytes:
    return one.report(nonce)
