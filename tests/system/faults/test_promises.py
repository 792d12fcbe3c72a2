"""The judge of bots under faults sees each promise broken, and each of its excuses where it is one."""

from tests.system.faults.ledger import Handled
from tests.system.faults.promises import Findings, Report, judge


def handled(*numbers: int) -> list[Handled]:
    """These numbers, a second apart from second 0 on."""
    return [
        Handled(f"event {number}", "chat", 7, number, float(second), float(second))
        for second, number in enumerate(numbers)
    ]


def judged(
    *numbers: int, said: int = 3, kills: tuple[float, ...] = (), in_hand: int = 2, answers: tuple[str, ...] = ()
) -> Findings:
    """What the judge says of these numbers."""
    return judge(said, handled(*numbers), answers, kills, in_hand=in_hand)


def test_all_in_order_breaks_nothing() -> None:
    found = judged(1, 2, 3)
    assert (found.handled, found.broken) == (3, {})


def test_what_was_not_handled_is_lost() -> None:
    assert judged(1, 3).broken == {"lost": 1}
    assert judged().broken == {"lost": 3}


def test_what_is_handled_first_after_a_later_one_is_reordered() -> None:
    assert judged(1, 3, 2).broken == {"reordered": 1}


def test_what_is_handled_again_after_a_kill_is_repeated_and_no_fault() -> None:
    found = judged(1, 2, 2, 3, kills=(1.5,))
    assert (found.repeated, found.broken) == (1, {})


def test_a_kill_before_or_after_both_times_excuses_nothing() -> None:
    assert judged(1, 2, 2, 3, kills=(0.5, 2.5)).broken == {"repeated_for_nothing": 1}


def test_what_was_on_its_way_at_the_kill_is_excused() -> None:
    first, again = handled(1, 1)
    late = Handled(first.event, first.conversation, first.user, 1, begun=0.0, at=0.5)
    assert judge(1, [late, again], (), (0.2,), in_hand=1).broken == {}


def test_each_time_needs_its_own_kill() -> None:
    assert judged(1, 2, 2, 2, 3, kills=(1.5,)).broken == {"repeated_for_nothing": 1}


def test_a_run_is_repeated_in_order_up_to_what_was_in_hand() -> None:
    assert judged(1, 2, 1, 2, 3, kills=(1.5,)).broken == {}
    assert judged(1, 2, 3, 1, 2, 3, kills=(2.5,)).broken == {"repeated_too_late": 1}


def test_another_name_for_the_same_is_seen_and_the_same_name_for_another() -> None:
    first, again = handled(1, 1)
    renamed = Handled("another", again.conversation, again.user, again.number, again.begun, again.at)
    assert judge(1, [first, renamed], (), (0.5,), in_hand=1).broken == {"renamed": 1}
    second = Handled(first.event, first.conversation, first.user, 2, 1.0, 1.0)
    assert judge(2, [first, second], (), (), in_hand=1).broken == {"renamed": 1}


def test_another_conversation_is_seen() -> None:
    first, second = handled(1, 2)
    astray = Handled(second.event, "another", second.user, second.number, second.begun, second.at)
    assert judge(2, [first, astray], (), (), in_hand=1).broken == {"astray": 1}


def test_answers_that_do_not_come_or_come_twice_are_counted() -> None:
    twenty = range(1, 21)
    assert judged(*twenty, said=20, answers=("heard 7 10", "heard 7 20")).broken == {}
    assert judged(*twenty, said=20, answers=("heard 7 10",)).broken == {"answers_lost": 1}
    assert judged(*twenty, said=20, answers=("heard 7 10", "heard 7 20", "heard 7 10")).broken == {
        "answers_repeated": 1
    }


def test_a_report_names_what_was_broken_at_which_bot() -> None:
    report = Report(users=2, sdk=judged(1, 2, 3), gateway=judged(1, 2) + judged(1, 3), left_running=1)
    assert report.broken == {"gateway lost": 2, "left_running": 1}
