"""What all families share: accepted machines, and ways to change one thing in them.

A family is a function that yields cases: a name, and how to make a machine that has to be refused. Where a device is changed, the
processor signs anew over what came out, so that not the binding alone refuses it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from attestation import Weakening
from tests.attestation.authority import amd, intel, nvidia
from tests.attestation.machines import (
    Machine,
    Unit,
    amd_authority,
    azure_machine,
    dstack_log,
    gpu,
    intel_authority,
    roots,
    snp_machine,
    switch,
    tdx_machine,
    vlek,
)

Case = tuple[str, Callable[[], Machine]]
Make = Callable[[], Machine]
FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {}


def family(cases: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
    """Register a family under its name."""
    FAMILIES[cases.__name__] = cases
    return cases


# --- Accepted machines ----------------------------------------------------------------------------------------------------

P256 = intel.P256_ORDER
P384 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
GENOA, TURIN, NVIDIA, INTEL = (
    amd_authority("Genoa"),
    amd_authority("Turin"),
    nvidia.nvidia_authority(),
    intel_authority(),
)
FORMS = ((4, intel.TD10), (5, intel.TD10), (5, intel.TD15))


@cache
def genoa() -> Machine:
    """A native machine, judged by one who trusts Turin's root as well."""
    return replace(snp_machine(), roots=roots("Genoa", "Turin"))


@cache
def turin() -> Machine:
    """The other product; its reports are of version 3."""
    return replace(snp_machine("Turin", version=3), roots=roots("Genoa", "Turin"))


@cache
def provider() -> Machine:
    """A machine whose report is signed with a provider's key."""
    return snp_machine(endorsed=vlek(), chain=(GENOA.asvk, GENOA.root), key_info=amd.VLEK_SIGNED)


@cache
def on_azure() -> Machine:
    """A machine on Azure."""
    return azure_machine()


@cache
def trust_domain(form: tuple[int, int] = FORMS[0]) -> Machine:
    """A TDX machine with the firmware's event log."""
    return tdx_machine(form)


@cache
def under_dstack() -> Machine:
    """A TDX machine with dstack's events."""
    return tdx_machine(FORMS[2], runtime=dstack_log(version=2))


@cache
def with_devices() -> Machine:
    """A Hopper GPU and a switch."""
    return snp_machine(devices=[gpu(), switch()])


@cache
def with_blackwell() -> Machine:
    """A Blackwell GPU beside a TDX machine."""
    return tdx_machine(devices=[gpu(arch="blackwell")])


PROCESSORS: Mapping[str, Make] = {"Genoa": genoa, "Turin": turin, "VLEK": provider}
DOMAINS: Mapping[str, Make] = {f"TDX {form}": partial(trust_domain, form) for form in FORMS}
MACHINES: Mapping[str, Make] = {
    **PROCESSORS,
    **DOMAINS,
    "Azure": on_azure,
    "dstack": under_dstack,
    "devices": with_devices,
    "Blackwell": with_blackwell,
}
UNITS: Mapping[str, Callable[[], Unit]] = {
    "Hopper": gpu,
    "Blackwell": partial(gpu, arch="blackwell"),
    "LS10": switch,
}


# --- Changes of bytes -----------------------------------------------------------------------------------------------------


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    """``data`` with one byte changed."""
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def replaced(data: bytes, old: str, new: str) -> bytes:
    """``data`` with a text that it has, everywhere, exchanged for another."""
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


def ends(where: slice) -> list[int]:
    """The first and the last byte of a field."""
    return sorted({where.start, where.stop - 1})


def spread(size: int, count: int) -> list[int]:
    """``count`` positions below ``size``, evenly, the ends among them."""
    return sorted({round(number * (size - 1) / (count - 1)) for number in range(count)})


# --- Machines with one thing changed --------------------------------------------------------------------------------------


def with_cpu(make: Make, **parts: Any) -> Machine:
    """The processor's evidence differs in these fields; nothing is signed anew."""
    return make().presenting(lambda document: replace(document, cpu=replace(document.cpu, **parts)))


def with_report(make: Make, change: Callable[[bytes], bytes]) -> Machine:
    """The processor's report is changed after signing."""
    return with_cpu(make, report=change(make().evidence.cpu.report))


def with_log(make: Make, change: Callable[[bytes], bytes]) -> Machine:
    """The event log is another one."""
    return with_cpu(make, event_log=change(make().evidence.cpu.event_log))


def with_tpm(**parts: Any) -> Machine:
    """The virtual TPM's quote differs in these fields; nothing is signed anew."""
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    return with_cpu(on_azure, tpm=replace(tpm, **parts))


@cache
def answer(unit: str, nonce: bytes) -> bytes:
    """The report of a device, made once."""
    return UNITS[unit]().device.report(nonce)


def with_unit(unit: str, change: Callable[[bytes], bytes]) -> Machine:
    """A machine whose one device reports what came out of a change, and whose processor signed for it.

    Reference values and revocation are not asked for: the report has to fail by itself.
    """
    made = replace(UNITS[unit](), answer=lambda _, nonce: change(answer(unit, nonce)))
    return lenient(snp_machine(devices=[made]))


def lenient(machine: Machine) -> Machine:
    """The same machine under a policy that does not ask for NVIDIA's word: what is refused there needs none."""
    skipped = {Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES, Weakening.UNSAFE_SKIP_GPU_REVOCATION}
    return machine.under(unsafe=frozenset(skipped))


def with_chain(unit: str, chain: Sequence[bytes]) -> Machine:
    """A machine whose one device shows other certificates; the processor signed for it."""
    return snp_machine(devices=[replace(UNITS[unit](), chain=tuple(chain))])


def with_item(make: Make, part: str, number: int, change: Callable[[bytes], bytes]) -> Machine:
    """One item of a list of the collateral is another one."""
    items = list(getattr(make().collateral, part))
    items[number] = change(items[number])
    return make().with_collateral(**{part: tuple(items)})


INTEL_BYTES = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
INTEL_TEXTS = ("tcb_info", "qe_identity")
INTEL_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def intel_part(part: str, make: Make = trust_domain) -> Any:  # noqa: ANN401 -- bytes or text, as the part has it
    """One of Intel's nine parts."""
    return getattr(make().collateral.intel, part)


def with_intel(part: str, value: bytes | str, make: Make = trust_domain) -> Machine:
    """One of Intel's nine parts is another one."""
    collateral = make().collateral.intel
    assert collateral is not None
    changed: dict[str, Any] = {part: value}
    return make().with_collateral(intel=replace(collateral, **changed))
