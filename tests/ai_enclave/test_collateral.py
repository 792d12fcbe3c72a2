"""An enclave staples what its vendors say: the newest it could have, and never fails for want of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ai_enclave.collateral import StapledCollateral, pause_after
from ai_enclave.limits import COLLATERAL_FIRST_RETRY, COLLATERAL_REFRESH
from attestation.collateral import NO_COLLATERAL
from attestation.errors import MissingCollateral
from attestation.fetching import LIFETIMES, Request, Response, Transport, TransportFailed
from tests.attestation import machines
from tests.attestation.fetching.test_gather import Vendors

HOURS = COLLATERAL_REFRESH / timedelta(seconds=1)


@dataclass
class Network:
    """The way to the vendors, which may be cut, answer something else, or hang."""

    vendors: Vendors
    instead: Response | Exception | None = None
    hangs: bool = False

    async def fetch(self, request: Request) -> Response:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if isinstance(self.instead, Exception):
            raise self.instead
        return self.instead or await self.vendors.fetch(request)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Transport]:
        yield self


@dataclass
class Sleeps:
    """Waits no time; after the last of ``then``, which are done one after each wait, for ever."""

    then: list[Callable[[], object]]
    slept: list[float] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.then:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        self.then.pop(0)()


def stapled(network: Network, folder: Path | None = None, now: datetime = machines.NOW) -> StapledCollateral:
    return StapledCollateral(folder, lambda: now, transport=network.open, seconds=5)


async def test_with_what_is_stapled_a_client_that_asks_nobody_accepts_the_machine() -> None:
    machine = machines.snp_machine(devices=[machines.gpu()])
    collateral = stapled(Network(Vendors(machine)))
    assert collateral.current == NO_COLLATERAL
    assert any(isinstance(error, MissingCollateral) for error in machine.assess(collateral=NO_COLLATERAL).errors)
    await collateral.refresh(machine.document)
    machine.appraise(collateral=collateral.current)


async def test_for_a_simulated_tee_there_is_nothing_to_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    machine = machines.simulated_machine()
    network = Network(Vendors(machine), TransportFailed("no network"))
    collateral = stapled(network)
    await collateral.refresh(machine.document)
    assert collateral.current == NO_COLLATERAL
    assert network.vendors.asked == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (TransportFailed("no route to 2001:db8::1"), "Unreachable"),
        (Response(429, (("Retry-After", "7"),)), "RateLimited"),
        (Response(404), "NotKnown"),
        (Response(200, (), b"<html>a login page</html>"), "MalformedAnswer"),
        (RuntimeError("a fault that nobody thought of"), "RuntimeError"),
    ],
)
async def test_a_failure_is_one_line_with_its_type_alone_and_what_there_was_stays(
    failure: Response | Exception, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = machines.snp_machine()
    network = Network(Vendors(machine))
    collateral = stapled(network)
    await collateral.refresh(machine.document)
    before = collateral.current
    network.instead = failure
    await collateral.refresh(machine.document)
    assert collateral.current is before != NO_COLLATERAL
    assert capsys.readouterr().err == f"subrosa enclave: vendors' documents could not be fetched ({name})\n"


async def test_what_is_no_evidence_and_a_vendor_that_hangs_are_failures_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = machines.snp_machine()
    network = Network(Vendors(machine), hangs=True)
    collateral = StapledCollateral(None, lambda: machines.NOW, transport=network.open, seconds=0.05)
    await collateral.refresh(b"not a document")
    await collateral.refresh(machine.document)
    assert collateral.current == NO_COLLATERAL
    assert [line.rpartition("(")[2] for line in capsys.readouterr().err.splitlines()] == [
        "MalformedEvidence)",
        "TimeoutError)",
    ]


async def test_in_the_folder_of_the_operator_are_vendors_documents_and_nothing_of_the_evidence(tmp_path: Path) -> None:
    machine = machines.snp_machine(devices=[machines.gpu()])
    folder = tmp_path / "cache"
    vendors = Vendors(machine)
    await stapled(Network(vendors), folder).refresh(machine.document)
    kept = [path.read_bytes() for path in folder.iterdir()]
    assert len(kept) == len(vendors.asked)
    own = (machines.KEYS.identity_key, machines.KEYS.receipt_key, machines.NONCE)
    assert not [secret for secret in own for data in kept if secret in data or secret.hex().encode() in data]
    assert folder.stat().st_mode & 0o077 == 0


async def test_an_enclave_that_starts_while_the_vendors_are_away_staples_what_is_kept(tmp_path: Path) -> None:
    machine = machines.snp_machine()
    network = Network(Vendors(machine))
    await stapled(network, tmp_path / "cache").refresh(machine.document)
    network.instead = TransportFailed("no network")
    later = machines.NOW + max(LIFETIMES.values()) + timedelta(days=1)
    restarted = stapled(network, tmp_path / "cache", later)
    await restarted.refresh(machine.document)
    machine.appraise(collateral=restarted.current)


async def test_it_looks_again_every_few_hours_and_sooner_after_failures() -> None:
    machine = machines.snp_machine()
    network = Network(Vendors(machine))

    def away() -> None:
        network.instead = TransportFailed("no network")

    def busy() -> None:
        network.instead = Response(429, (("Retry-After", "500"),))

    def back() -> None:
        network.instead = None

    sleeps = Sleeps([away, away, busy, back, back])
    collateral = StapledCollateral(None, lambda: machines.NOW, transport=network.open, sleep=sleeps.sleep)
    await collateral.refresh(machine.document)
    task = asyncio.create_task(collateral.keep_fresh(machine.document))
    await asyncio.wait_for(sleeps.over.wait(), 10)
    task.cancel()
    expected = [HOURS, COLLATERAL_FIRST_RETRY, 2 * COLLATERAL_FIRST_RETRY, 500, HOURS, HOURS]
    assert len(sleeps.slept) == len(expected)
    assert all(wanted <= slept <= 1.25 * wanted for wanted, slept in zip(expected, sleeps.slept, strict=True))
    machine.appraise(collateral=collateral.current)


async def test_what_failed_at_the_start_is_tried_again_soon_and_new_documents_take_the_place_of_old_ones() -> None:
    machine = machines.snp_machine()
    network = Network(Vendors(machine), TransportFailed("no network"))
    older: list[object] = []

    def back() -> None:
        network.instead = None

    def renewed() -> None:
        older.append(collateral.current)
        new = replace(machine.collateral, amd_crls=(machines.amd_authority().crl(),))
        network.vendors.machine = replace(machine, collateral=new)

    sleeps = Sleeps([back, renewed])
    collateral = StapledCollateral(None, lambda: machines.NOW, transport=network.open, sleep=sleeps.sleep)
    await collateral.refresh(machine.document)
    task = asyncio.create_task(collateral.keep_fresh(machine.document))
    await asyncio.wait_for(sleeps.over.wait(), 10)
    task.cancel()
    assert sleeps.slept[0] <= 1.25 * COLLATERAL_FIRST_RETRY
    assert older
    assert collateral.current not in (older[0], NO_COLLATERAL)


@pytest.mark.parametrize(
    ("failures", "asked_to_wait", "seconds"),
    [
        (0, 0.0, HOURS),
        (1, 0.0, 60.0),
        (2, 0.0, 120.0),
        (8, 0.0, 7680.0),
        (9, 0.0, HOURS),
        (10_000, 0.0, HOURS),
        (1, 59.0, 60.0),
        (1, 61.0, 61.0),
        (1, 86_400.0, 86_400.0),
    ],
)
def test_pauses_double_up_to_the_ordinary_one_and_are_as_long_as_a_vendor_asks(
    failures: int, asked_to_wait: float, seconds: float
) -> None:
    assert pause_after(failures, asked_to_wait) == seconds
