"""What is done to a deployment, and the table of what came of it."""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.faults.harness import Deployment, Relay

FROZEN_SECONDS = 1.0
ON_THE_WAY_SECONDS = 0.3  # answers that had left before the store was stopped


async def kill_relay(on: Deployment) -> None:
    """Kill -9 of a relay"""
    relay = _one_of(on)
    await relay.kill()
    relay.proxy.cut()
    await relay.start()


async def freeze_relay(on: Deployment) -> None:
    """SIGSTOP of a relay for a second"""
    relay = _one_of(on)
    relay.signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    relay.signal(signal.SIGCONT)


async def kill_postgres(on: Deployment) -> None:
    """Kill -9 of PostgreSQL, all of its processes"""
    if on.postgres is not None:
        await asyncio.to_thread(on.postgres.kill)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(on.postgres.start)


async def freeze_postgres(on: Deployment) -> None:
    """SIGSTOP of PostgreSQL: nothing may be accepted"""
    if on.postgres is None:
        return
    on.postgres.freeze()
    await asyncio.sleep(ON_THE_WAY_SECONDS)
    before = on.accepted
    await asyncio.sleep(FROZEN_SECONDS)
    on.accepted_while_stopped += on.accepted - before
    on.postgres.thaw()


async def kill_valkey(on: Deployment) -> None:
    """Kill -9 of Valkey"""
    if on.valkey is not None:
        await asyncio.to_thread(on.valkey.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(on.valkey.start)


async def freeze_valkey(on: Deployment) -> None:
    """SIGSTOP of Valkey for a second"""
    if on.valkey is not None:
        on.valkey.freeze()
        await asyncio.sleep(FROZEN_SECONDS)
        on.valkey.thaw()


async def flush_valkey(on: Deployment) -> None:
    """FLUSHALL and SCRIPT FLUSH"""
    await asyncio.to_thread(on.flush_valkey)


async def cut_connections(on: Deployment) -> None:
    """All connections to a relay cut"""
    _one_of(on).proxy.cut()


async def half_open(on: Deployment) -> None:
    """Connections open and dead for two seconds"""
    proxy = _one_of(on).proxy
    proxy.dead = True
    await asyncio.sleep(2)
    proxy.dead = False
    proxy.cut()  # what was swallowed is missing in the middle of each stream


async def refuse(on: Deployment) -> None:
    """A relay out of reach for half a second"""
    proxy = _one_of(on).proxy
    proxy.refusing = True
    proxy.cut()
    await asyncio.sleep(0.5)
    proxy.refusing = False


Fault = Callable[[Deployment], Awaitable[None]]
OF_RELAYS: tuple[Fault, ...] = (kill_relay, freeze_relay, cut_connections, half_open, refuse)
OF_STORES: tuple[Fault, ...] = (kill_postgres, freeze_postgres, kill_valkey, freeze_valkey, flush_valkey)


@dataclass
class Table:
    """What was tried, and what came of it."""

    tried: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    repeated: int = 0  # sends that were made again under their key
    connections: int = 0
    lost: int = 0
    reordered: int = 0
    stored_twice: int = 0
    accepted_while_stopped: int = 0
    delivered_again: int = 0

    @property
    def broken(self) -> Mapping[str, int]:
        """The promises that were not kept."""
        of_promises = ("lost", "reordered", "stored_twice", "accepted_while_stopped")
        return {name: count for name in of_promises if (count := getattr(self, name))}

    def markdown(self) -> str:
        """The table, for people."""
        rows = [("fault", "times"), ("---", "---"), *sorted(self.tried.items()), ("**all faults**", self.tried.total())]
        rows += [
            ("", ""),
            ("messages accepted (200)", self.accepted),
            ("sends repeated under their key", self.repeated),
        ]
        rows += [("sockets opened", self.connections), ("delivered again, and recognised", self.delivered_again)]
        rows += [("**lost**", self.lost), ("**reordered**", self.reordered), ("**stored twice**", self.stored_twice)]
        rows += [("**accepted while the store was stopped**", self.accepted_while_stopped)]
        return "\n".join(f"| {name} | {f'{count:,}' if isinstance(count, int) else count} |" for name, count in rows)

    def write(self, path: Path) -> None:
        """The table, for machines."""
        path.write_text(json.dumps({**vars(self), "tried": dict(self.tried)}, indent=2) + "\n")


async def torment(on: Deployment, faults: Sequence[Fault], dice: random.Random, *, messages: int = 0) -> Table:
    """Do one fault after the other while everybody talks, and go on talking until so many messages are accepted."""
    table = Table()
    async with on.talking():
        await asyncio.sleep(0.5)
        for fault in faults:
            await fault(on)
            table.tried[(fault.__doc__ or "").strip()] += 1
            await asyncio.sleep(dice.uniform(0.1, 0.6))
        while on.accepted < messages:
            await asyncio.sleep(0.5)
    table.accepted = on.accepted
    table.accepted_while_stopped = on.accepted_while_stopped
    for pair in on.pairs:
        table.repeated += pair.tries - len(pair.accepted)
        table.connections += pair.connections
        table.lost += pair.missing
        table.reordered += pair.reordered
        table.stored_twice += pair.stored_twice
        table.delivered_again += pair.delivered_again
    return table


def _one_of(on: Deployment) -> Relay:
    return random.choice(on.relays)  # noqa: S311 - no secret
