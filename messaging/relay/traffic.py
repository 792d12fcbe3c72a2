"""What the relay is asked, counted: by route, verb and status, with how long it took. No line of the log for each call.

Every few seconds one line for each kind of call says how many there were and how long they took on average; a call that took
long, or that failed by a fault of the relay, has a line of its own at once.
"""

import asyncio
from dataclasses import dataclass

from messaging.relay.metrics import Answered, Asked, status_class
from messaging.serving.logs import get_logger

REPORT_SECONDS = 10
SLOW_MILLISECONDS = 1000
_FAULT = 500


@dataclass(slots=True)
class Tally:
    """Calls of one kind: how many, and milliseconds in all."""

    count: int = 0
    milliseconds: float = 0


class Traffic:
    """Counts calls. ``run`` reports them."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, int], Tally] = {}  # since the last report
        self._before: dict[Asked, Answered] = {}  # until then

    def count(self, route: str, verb: str, status: int, milliseconds: float) -> None:
        """Note a call that has been answered."""
        tally = self._tallies.get((route, verb, status))
        if tally is None:
            # A verb can be any word: what is no route is counted together.
            verb = verb if route != "unknown" else "any"
            tally = self._tallies.setdefault((route, verb, status), Tally())
        tally.count += 1
        tally.milliseconds += milliseconds
        if status >= _FAULT or milliseconds >= SLOW_MILLISECONDS:
            get_logger().warning("call", route=route, verb=verb, status=status, duration_ms=milliseconds)

    def report(self) -> None:
        """Write what has been counted since the last time, and begin anew."""
        self._before = self.totals()
        tallies, self._tallies = self._tallies, {}
        for (route, verb, status), tally in sorted(tallies.items()):
            mean = round(tally.milliseconds / tally.count, 1)
            get_logger().info("calls", route=route, verb=verb, status=status, count=tally.count, duration_ms=mean)

    def totals(self) -> dict[Asked, Answered]:
        """All calls since the process began, by the class of their status."""
        totals = dict(self._before)
        for (route, verb, status), tally in self._tallies.items():
            asked = Asked(route, verb, status_class(status))
            count, milliseconds = totals.get(asked, (0, 0.0))
            totals[asked] = Answered(count + tally.count, round(milliseconds + tally.milliseconds, 1))
        return totals

    async def run(self) -> None:
        """Report every few seconds until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                self.report()
        finally:
            self.report()
