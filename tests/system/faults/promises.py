"""What is promised to bots, as a judgement of what was said and what was handled. No I/O.

Every message is handled at least once, and in each conversation for the first time in the order in which it was said. A message that is
handled again has the same name, and a reason: since it was given out before, something was killed that handles, the bot, or the gateway
or the target. And it is one of the last ``in_hand`` messages of its conversation, those that were being handled.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from tests.system.faults.ledger import ANSWERED, Handled


@dataclass(kw_only=True)
class Findings:
    """How often each promise was broken, and how often messages were handled again as it is allowed."""

    handled: int = 0  # different messages
    repeated: int = 0  # handled again
    answered: int = 0
    lost: int = 0
    reordered: int = 0  # handled for the first time after a later one
    renamed: int = 0  # handled again under another name, or another one under the same
    astray: int = 0  # handled in another conversation than the others of the same user
    repeated_for_nothing: int = 0  # nothing was killed in between
    repeated_too_late: int = 0  # more later ones had been handled than were in hand
    answers_lost: int = 0
    answers_repeated: int = 0

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def broken(self) -> Mapping[str, int]:
        """The promises that were not kept."""
        kept = ("handled", "repeated", "answered")
        return {
            each.name: count for each in fields(self) if each.name not in kept and (count := getattr(self, each.name))
        }


def judge(
    said: int, handled: Sequence[Handled], answers: Iterable[str], kills: Sequence[float], *, in_hand: int
) -> Findings:
    """Judge one conversation.

    Args:
        said: its messages are numbered from 1 to this.
        handled: what was handled of it, in order.
        answers: what its user was answered.
        kills: when something was killed that handles, in order, on the clock of ``handled``.
        in_hand: how many messages of one conversation are handled before it is known that the first one was.
    """
    found = Findings()
    seen: dict[int, Handled] = {}  # by number, how it was handled last
    greatest = 0
    for each in handled:
        before = seen.get(each.number)
        if before is None:
            found.reordered += each.number < greatest
        else:
            found.repeated += 1
            found.renamed += each.event != before.event
            found.repeated_for_nothing += not _is_between(kills, before.begun, each.at)
            found.repeated_too_late += greatest - each.number >= in_hand
        greatest = max(greatest, each.number)
        seen[each.number] = each
    found.handled = len(seen)
    found.lost = len(set(range(1, said + 1)) - set(seen))
    found.renamed += len(seen) - len({each.event for each in seen.values()})
    found.astray = len({each.conversation for each in handled}) - 1 if handled else 0
    counted = Counter(answers)
    found.answered = len(counted)
    found.answers_lost = max(0, said // ANSWERED - len(counted))
    found.answers_repeated = counted.total() - len(counted)
    return found


def _is_between(kills: Sequence[float], before: float, after: float) -> bool:
    place = bisect_left(kills, before)
    return place < len(kills) and kills[place] <= after


@dataclass(kw_only=True)
class Report:
    """What was done, and what came of it."""

    users: int
    said: int = 0
    refused: int = 0  # messages that the relay refused, and that were said again
    sdk: Findings = field(default_factory=Findings)
    gateway: Findings = field(default_factory=Findings)
    kills: dict[str, int] = field(default_factory=dict)
    left_running: int = 0  # processes that a killed one had started, and that outlived it
    seconds_saying: float = 0.0
    seconds: float = 0.0  # until everything was handled

    @property
    def broken(self) -> Mapping[str, int]:
        """The promises that were not kept."""
        broken = {
            f"{name} {what}": count for name in ("sdk", "gateway") for what, count in getattr(self, name).broken.items()
        }
        return {**broken, "left_running": self.left_running} if self.left_running else broken
