"""A clock that jumps is not believed."""

from messaging.relay.clock import MAX_STEP_SECONDS, Clock


class Hands:
    """A clock on the wall, and one that only runs."""

    wall = 1_700_000_000.0
    steady = 100.0

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_time_goes_on_and_small_corrections_are_followed() -> None:
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    hands.run(60)
    assert clock() == 1_700_000_060_000
    hands.wall += MAX_STEP_SECONDS
    assert clock() == 1_700_000_360_000
    hands.wall -= 10
    assert clock() == 1_700_000_350_000


def test_a_jump_is_not_followed_in_either_direction_and_the_right_time_is_found_again() -> None:
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    for jump in (MAX_STEP_SECONDS + 1, 40 * 86_400, -3600):
        hands.wall += jump
        hands.run(5)
        before = clock()
        hands.run(5)
        assert clock() - before == 5000
        hands.wall -= jump
    assert clock() == 1_700_000_030_000
