"""Setting the machine's clock back changes nothing in the enclave."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.clock import EnclaveClock

SECOND = 1_000_000_000  # in nanoseconds


@dataclass
class Machine:
    """Two clocks: a host sets one of them."""

    wall: int = 1_800_000_000 * SECOND
    steady: int = 5 * SECOND

    def pass_time(self, nanoseconds: int) -> None:
        """Both go on."""
        self.wall += nanoseconds
        self.steady += nanoseconds


def a_clock(machine: Machine) -> EnclaveClock:
    return EnclaveClock(lambda: machine.wall, lambda: machine.steady)


def test_it_is_the_machines_clock_in_milliseconds() -> None:
    machine = Machine()
    clock = a_clock(machine)
    assert clock() == 1_800_000_000_000
    machine.pass_time(1_999_999)
    assert clock() == 1_800_000_000_001


def test_set_ahead_it_follows() -> None:
    machine = Machine()
    clock = a_clock(machine)
    machine.wall += 60 * SECOND
    assert clock() == 1_800_000_060_000


@given(back=st.integers(0, 1_800_000_000 * SECOND), passed=st.integers(0, 10**6).map(lambda seconds: seconds * SECOND))
def test_set_back_or_held_it_counts_on(back: int, passed: int) -> None:
    machine = Machine()
    clock = a_clock(machine)
    before = clock()
    machine.pass_time(passed)
    machine.wall -= back
    assert clock() == before + passed // 1_000_000


def test_by_default_it_is_the_real_time() -> None:
    clock = EnclaveClock()
    assert 0 <= clock.wall() // 1_000_000 - clock() < 1000
