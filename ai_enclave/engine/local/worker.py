"""The thread in which tokens are computed. Others leave orders here, and hear of events by a callback that is called in the thread."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ai_enclave.engine.interface import Failed, Failure
from ai_enclave.engine.local.batcher import Ask, Batcher, Events


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this request."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Stop everything, and the thread."""


Order = Ask | Cancel | End


class Worker:
    """Computes as long as there is something to do, and sleeps otherwise."""

    def __init__(self, batcher: Batcher, deliver: Callable[[Events], None]) -> None:
        self._batcher = batcher
        self._deliver = deliver
        self._orders: list[Order] = []
        self._broken = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="local engine", daemon=True)

    def start(self) -> None:
        """Begin, if it has not begun."""
        with self._changed:
            if self._thread.ident is None:
                self._thread.start()

    def order(self, order: Order) -> None:
        """Leave an order. Any thread may."""
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            orders = self._take()
            running = not any(isinstance(order, End) for order in orders)
            try:
                events = [event for order in orders for event in self._obey(order)]
                if running and self._batcher.busy and not self._broken:
                    events += self._batcher.step()
            except Exception:  # noqa: BLE001  # a fault of ours: nothing is computed any more, but nobody waits in vain
                self._broken = True
                events = [(number, Failed(Failure.BROKEN)) for number in {*self._batcher.numbers, *_asked(orders)}]
                self._batcher.forget()
            if events:
                self._deliver(events)

    def _take(self) -> list[Order]:
        """What was ordered; if there is nothing else to do, wait for an order."""
        with self._changed:
            while not self._orders and (self._broken or not self._batcher.busy):
                self._changed.wait()
            orders, self._orders = self._orders, []
            return orders

    def _obey(self, order: Order) -> Events:
        match order:
            case Ask(number=number) if self._broken:
                return [(number, Failed(Failure.BROKEN))]
            case Ask():
                return self._batcher.submit(order)
            case Cancel(number):
                return self._batcher.cancel(number)
            case End() if self._broken:
                return []
            case End():
                return self._batcher.end(Failure.CANCELLED)


def _asked(orders: Iterable[Order]) -> set[int]:
    return {order.number for order in orders if isinstance(order, Ask)}
