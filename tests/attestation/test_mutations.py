"""Every change of accepted evidence is refused: whatever was flipped, cut, appended, exchanged, replayed, back-dated or respelt.

The changes are in ``tests.attestation.mutations``, thousands of them in families. Each has to be refused with an
``AttestationError``, with nothing else, and within ``LIMIT``. ``HARMLESS`` lists, and shows, all that may differ.
"""

import time
from functools import cache

import pytest

from attestation import AttestationError
from tests.attestation.machines import Machine
from tests.attestation.mutations import chance, fields, rules, signatures, spellings, strangers, times
from tests.attestation.mutations.chance import HARMLESS
from tests.attestation.mutations.families import FAMILIES, MACHINES, Case

LIMIT = 0.050  # seconds of this process's own time for one appraisal
FEWEST = 2000
FILES = (fields, signatures, strangers, times, rules, spellings, chance)  # importing them fills FAMILIES


@cache
def cases_of(name: str) -> tuple[Case, ...]:
    """All cases of a family; most are made when they are tried."""
    return tuple(FAMILIES[name]())


def fault(case: Case) -> str:
    """What is wrong with the verifier if it does not refuse this case as it should; empty if all is well."""
    label, make = case
    machine = make()
    try:
        refused, seconds = timed(machine)
        if seconds > LIMIT:  # once more: something else may have run on this core
            refused, seconds = timed(machine)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the finding
        return f"{label}: raised {type(error).__name__}"
    if not refused:
        return f"{label}: accepted"
    return f"{label}: took {1000 * seconds:.0f} ms" if seconds > LIMIT else ""


def timed(machine: Machine) -> tuple[bool, float]:
    """Whether the machine is refused, and in how many seconds."""
    started = time.process_time()
    errors = machine.assess().errors
    seconds = time.process_time() - started
    return any(isinstance(error, AttestationError) for error in errors), seconds


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_is_accepted_before_it_is_changed(name: str) -> None:
    appraisal = MACHINES[name]().assess()
    assert appraisal.errors == ()
    assert appraisal.weakenings == ("UnsafeTrustOtherRoots",)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_nobody_signs_and_nothing_rests_on_may_differ(what: str) -> None:
    assert HARMLESS[what]().refusals() == []


@pytest.mark.parametrize("name", FAMILIES)
def test_refuses_every_case_of_the_family(name: str) -> None:
    assert [found for found in map(fault, cases_of(name)) if found] == []


def test_the_families_have_thousands_of_cases_and_no_two_of_the_same_name() -> None:
    sizes = {name: len(cases_of(name)) for name in FAMILIES}
    assert sum(sizes.values()) >= FEWEST, sizes
    assert min(sizes.values()) >= 10, sizes
    for name in FAMILIES:
        labels = [label for label, _ in cases_of(name)]
        assert len(set(labels)) == len(labels), name
