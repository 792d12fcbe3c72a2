"""Signed bytes that are flipped one by one, by the names of their fields; and bytes that are missing or too many."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from attestation.parsing.azure import HclReport
from tests.attestation.authority import amd, azure, intel, nvidia
from tests.attestation.machines import amd_crl
from tests.attestation.mutations.families import (
    DOMAINS,
    FORMS,
    INTEL_BYTES,
    INTEL_TEXTS,
    MACHINES,
    PROCESSORS,
    UNITS,
    Case,
    answer,
    ends,
    family,
    flipped,
    genoa,
    intel_part,
    on_azure,
    spread,
    with_chain,
    with_cpu,
    with_devices,
    with_intel,
    with_item,
    with_report,
    with_tpm,
    with_unit,
)


@family
def fields_of_amd() -> Iterator[Case]:
    """Every field of a SEV-SNP report, the numbers of its signature and its padding."""
    for name, make in PROCESSORS.items():
        for field, where in (*amd.FIELDS.items(), *amd.SIGNATURE_FIELDS.items()):
            for at in ends(where):
                yield f"{name}: {field}, byte {at}", partial(with_report, make, partial(flipped, at=at))


@family
def fields_of_intel() -> Iterator[Case]:
    """Every field of a quote, its signature block included, in each form."""
    for form, (name, make) in zip(FORMS, DOMAINS.items(), strict=True):
        for field, where in (*intel.FIELDS[form].items(), *intel.SIGNATURE_FIELDS[form].items()):
            for at in ends(where):
                yield f"{name}: {field}, byte {at}", partial(with_report, make, partial(flipped, at=at))


# Of Azure's container: its own header, on which nothing rests.
UNREAD = ("version", "content_size", "request_type", "status", "reserved", "claims_data_size")


@family
def fields_of_azure() -> Iterator[Case]:
    """What is read of the container, the report in it, and the claims that it commits to."""
    cpu = on_azure().evidence.cpu
    hcl = HclReport.parse(cpu.report)
    blob = azure.HclBlob(report=hcl.report, claims=hcl.claims).fields()
    for field, where in blob.items():
        if field not in UNREAD:
            change = partial(flipped, at=where.stop - 1)
            yield f"container: {field}", partial(with_report, on_azure, change)
    for field, where in amd.FIELDS.items():
        at = blob["report"].start + where.start
        yield f"report: {field}", partial(with_report, on_azure, partial(flipped, at=at))
    for at in spread(len(hcl.claims), 80):
        change = partial(flipped, at=blob["claims"].start + at)
        yield f"claims: byte {at}", partial(with_report, on_azure, change)


@family
def fields_of_the_virtual_tpm() -> Iterator[Case]:
    """Every field of a quote of the virtual TPM, its signature, and the registers that it is over."""
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    for field, where in azure.Quote(extra_data=bytes(32)).fields().items():
        for at in ends(where):
            yield f"message: {field}, byte {at}", partial(with_tpm, message=flipped(tpm.message, at))
    for at in spread(len(tpm.signature), 16):
        yield f"signature: byte {at}", partial(with_tpm, signature=flipped(tpm.signature, at))
    for number, register in enumerate(tpm.pcrs):
        pcrs = (*tpm.pcrs[:number], flipped(register, number), *tpm.pcrs[number + 1 :])
        yield f"register {number}", partial(with_tpm, pcrs=pcrs)


@family
def fields_of_nvidia() -> Iterator[Case]:
    """Every field of a report of a device; of the measurements, which have one form, every third."""
    for unit in UNITS:
        for field, where in nvidia.fields(answer(unit, bytes(32))).items():
            kind, _, index = field.partition("[")
            if kind == "measurement" and int(index.partition("]")[0]) % 3:
                continue  # all measurements have the same form
            for at in ends(where)[-1:]:
                yield f"{unit}: {field}", partial(with_unit, unit, partial(flipped, at=at))


@family
def bytes_of_certificates() -> Iterator[Case]:
    """Certificates of processors and devices, the pinned root included."""
    for name, make in PROCESSORS.items():
        chain = make().evidence.cpu.certificates
        for number, certificate in enumerate(chain):
            for at in spread(len(certificate), 24):
                changed = (*chain[:number], flipped(certificate, at), *chain[number + 1 :])
                yield f"{name}: certificate {number}, byte {at}", partial(with_cpu, make, certificates=changed)
    for unit, made in UNITS.items():
        chain = made().device.chain
        for number, certificate in enumerate(chain):
            for at in spread(len(certificate), 8):
                changed = (*chain[:number], flipped(certificate, at), *chain[number + 1 :])
                yield f"{unit}: certificate {number}, byte {at}", partial(with_chain, unit, changed)


# --- Cut, and added to ----------------------------------------------------------------------------------------------------


def resized(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """``data`` too short or too long."""
    for size in spread(len(data), count):
        yield f"cut to {size}", data[:size]
    for label, added in {
        "one byte": b"\x01",
        "zeros and a byte": bytes(15) + b"\x01",
        "its beginning": data[:16],
    }.items():
        yield f"{label} added", data + added
    yield "a byte in front", b"\0" + data
    yield "twice", data + data


@family
def sizes_of_reports() -> Iterator[Case]:
    """What processors and devices signed, cut and added to."""
    for name, make in MACHINES.items():
        if name in {"devices", "Blackwell"}:
            continue  # other names have their processors
        data = make().evidence.cpu.report
        for label, changed in resized(data.rstrip(b"\0") if name == "Azure" else data, 24):
            yield f"{name}: {label}", partial(with_cpu, make, report=changed)
    for unit in UNITS:
        for number, (label, _) in enumerate(resized(answer(unit, bytes(32)), 10)):
            change = partial(_resized, count=10, number=number)
            yield f"{unit}: {label}", partial(with_unit, unit, change)
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    for label, changed in resized(tpm.message, 16):
        yield f"the TPM's quote: {label}", partial(with_tpm, message=changed)
    for label, changed in resized(tpm.signature, 8):
        yield f"the TPM's signature: {label}", partial(with_tpm, signature=changed)


def _resized(data: bytes, count: int, number: int) -> bytes:
    return list(resized(data, count))[number][1]


@family
def sizes_of_documents() -> Iterator[Case]:
    """Whole documents, cut and added to."""
    for name, make in MACHINES.items():
        for label, changed in resized(make().document, 12):
            yield f"{name}: {label}", partial(replace, make(), document=changed)


@family
def sizes_of_collateral() -> Iterator[Case]:
    """What vendors signed, cut and added to."""
    for label, changed in resized(amd_crl(), 12):
        yield f"AMD's list: {label}", partial(genoa().with_collateral, amd_crls=(changed,))
    for part in INTEL_BYTES:
        for label, changed in resized(intel_part(part), 8):
            yield f"Intel's {part}: {label}", partial(with_intel, part, changed)
    for part in INTEL_TEXTS:
        text: str = intel_part(part)
        for size in spread(len(text), 8):
            yield f"Intel's {part}: cut to {size}", partial(with_intel, part, text[:size])
        yield f"Intel's {part}: a space added", partial(with_intel, part, text + " ")
    for part, number in (("ocsp_responses", 0), ("ocsp_responses", 3), ("rims", 0), ("rims", 1)):
        item: bytes = getattr(with_devices().collateral, part)[number]
        for size, (label, _) in enumerate(resized(item.rstrip(b"\n"), 6)):
            change = partial(_resized_text, count=6, number=size)
            yield f"NVIDIA's {part} {number}: {label}", partial(with_item, with_devices, part, number, change)


def _resized_text(data: bytes, count: int, number: int) -> bytes:
    return _resized(data.rstrip(b"\n"), count, number)
