"""Evidence at another time, under another nonce, or for other keys than it was made for."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from tests.attestation.authority import nvidia
from tests.attestation.machines import (
    KEYS,
    NONCE,
    NOW,
    Machine,
    gpu,
    intel_collateral,
    links,
    simulated_machine,
    snp_machine,
    switch,
    tdx_machine,
)
from tests.attestation.mutations.families import (
    GENOA,
    INTEL,
    MACHINES,
    NVIDIA,
    UNITS,
    Case,
    Make,
    family,
    flipped,
    genoa,
    trust_domain,
    with_devices,
    with_item,
)

SEED = 20260601
Life = tuple[datetime, datetime]
DAYS = (41, 45, 60, 90, 180, 365, 1000, 4000, 10_000, 100_000, 700_000)
ENDS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@family
def times_at_which_nothing_is_valid() -> Iterator[Case]:
    """Long before or after the collateral, and out of the policy's own time."""
    for name, make in MACHINES.items():
        for days in sorted((*DAYS, *(-days for days in DAYS))):
            yield f"{name}: {days} days", partial(replace, make(), now=NOW + timedelta(days=days))
        for now in ENDS:
            yield f"{name}: the year {now.year}", partial(replace, make(), now=now)
        yield f"{name}: the policy has ended", partial(make().under, valid_until=NOW - SECOND)
        yield f"{name}: the policy has not begun", partial(make().under, valid_from=NOW + SECOND)


LATE = ((NOW - 20 * DAY, NOW - SECOND), (NOW - 400 * DAY, NOW - 300 * DAY), (NOW - 2 * DAY, NOW - DAY))
EARLY = ((NOW + timedelta(seconds=301), NOW + DAY), (NOW + DAY, NOW + 2 * DAY), (NOW + 400 * DAY, NOW + 500 * DAY))
YESTERDAY, TOMORROW = (NOW - 9 * DAY, NOW - SECOND), (NOW + SECOND, NOW + 9 * DAY)


@family
def collateral_of_another_time() -> Iterator[Case]:
    """One part of the collateral is stale, or from the future."""
    for life in (*LATE, *EARLY):
        yield f"AMD's list of {life[0]}", partial(_with_amd, life)
        for part in ("tcb_info", "qe_identity", "pck_crl", "root_crl"):
            yield f"Intel's {part} of {life[0]}", partial(_with_intel, part, life)
        for number, link in enumerate(links([gpu(), switch()])):
            change = partial(_answer, link=link, life=life)
            yield f"answer {number} of {life[0]}", partial(with_item, with_devices, "ocsp_responses", number, change)


@family
def certificates_of_another_time() -> Iterator[Case]:
    """Leaves and signers that have expired, or are not valid yet."""
    for label, life in {"yesterday": YESTERDAY, "tomorrow": TOMORROW}.items():
        yield f"a chip of {label}", partial(_with_chip, life)
        yield f"a provider of {label}", partial(_with_provider, life)
        yield f"a platform of {label}", partial(tdx_machine, pck=INTEL.issue_pck(valid=life))
        for unit, made in UNITS.items():
            old = NVIDIA.device(made().device.arch, life=life)
            yield f"{unit} of {label}", partial(snp_machine, devices=[replace(made(), device=old)])
        for number, kind in enumerate(nvidia.KINDS):
            change = partial(_manifest, kind=kind, life=life)
            yield f"a signer of {kind}s of {label}", partial(with_item, with_devices, "rims", number, change)
        for number, link in enumerate(links([gpu(), switch()])):
            change = partial(_responder, link=link, life=life)
            yield f"responder {number} of {label}", partial(with_item, with_devices, "ocsp_responses", number, change)


def _with_amd(life: Life) -> Machine:
    return genoa().with_collateral(amd_crls=(GENOA.crl(this_update=life[0], next_update=life[1]),))


def _with_intel(part: str, life: Life) -> Machine:
    return trust_domain().with_collateral(intel=intel_collateral(**{f"{part}_window": life}))


def _answer(_: bytes, link: tuple[bytes, bytes], life: Life) -> bytes:
    return NVIDIA.ocsp(*link, this_update=life[0], next_update=life[1])


def _responder(_: bytes, link: tuple[bytes, bytes], life: Life) -> bytes:
    return NVIDIA.ocsp(*link, responder_life=life)


def _manifest(_: bytes, kind: nvidia.Kind, life: Life) -> bytes:
    return NVIDIA.rim(kind, signer=NVIDIA.rim_signer(life=life))


def _with_chip(life: Life) -> Machine:
    return snp_machine(endorsed=GENOA.vcek(not_before=life[0], not_after=life[1]))


def _with_provider(life: Life) -> Machine:
    endorsed = GENOA.vlek(not_before=life[0], not_after=life[1])
    return snp_machine(endorsed=endorsed, chain=(GENOA.asvk, GENOA.root), key_info=1 << 2)


@family
def replayed_nonces() -> Iterator[Case]:
    """The document answered somebody else, or an earlier question."""
    chance = random.Random(SEED)  # noqa: S311 -- nothing here is secret
    for name, make in {**MACHINES, "simulated": simulated_machine}.items():
        nonces = [bytes(32), b"\xff" * 32, NONCE[::-1], *(chance.randbytes(32) for _ in range(4))]
        nonces += [flipped(NONCE, at) for at in range(0, 32, 1 if name in {"Genoa", "Azure"} else 8)]
        for nonce in nonces:
            yield f"{name}: {nonce.hex()}", partial(replace, make(), nonce=nonce)


@family
def other_keys() -> Iterator[Case]:
    """Keys, or a release, that the hardware does not speak for."""
    for name, make in {**MACHINES, "simulated": simulated_machine}.items():
        step = 1 if name in {"Genoa", "Turin", "Azure", "simulated"} else 11
        for at in range(0, 33, step):
            yield f"{name}: identity {at}", partial(_with_keys, make, identity_key=flipped(KEYS.identity_key, at))
        for at in range(0, 32, step):
            yield f"{name}: receipts {at}", partial(_with_keys, make, receipt_key=flipped(KEYS.receipt_key, at))
        for release in ("another", KEYS.release + " ", KEYS.release.upper(), KEYS.release[:-1]):
            yield f"{name}: release {release!r}", partial(_with_keys, make, release=release)
        yield f"{name}: one key for both", partial(_with_keys, make, identity_key=b"\5" + KEYS.receipt_key)


def _with_keys(make: Make, **keys: Any) -> Machine:
    return make().presenting(lambda document: replace(document, keys=replace(document.keys, **keys)))
