"""Liveness and readiness, for whoever watches over a relay.

*Alive* means that the process answers; one that does not is to be started anew. *Ready* means that it should be sent requests:
it can read from its database, all its parts run, and it is not about to stop. Redis is no part of it: the relay works without.
"""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy import text

from messaging.relay.database import Database
from messaging.relay.errors import Unavailable
from messaging.relay.http import Access, Answer, Call, Doc, Route, answer_with
from messaging.wire.server_info import Health

READY_SECONDS = 2


@dataclass(slots=True)
class HealthService:
    """Looks whether the relay can work. ``stopping`` is set when it is about to stop, ``broken`` when a part of it has failed.

    Who asks is not counted: all who ask at the same time share one look at the database.
    """

    database: Database
    stopping: asyncio.Event
    broken: asyncio.Event
    _look: asyncio.Task[None] | None = field(default=None, init=False)

    async def check_ready(self) -> None:
        """Read from the database.

        Raises:
            Unavailable: it cannot be read in time, or the relay is about to stop.
        """
        if self.stopping.is_set() or self.broken.is_set():
            raise Unavailable
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._read())
        await asyncio.shield(self._look)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS), self.database.read() as db:
                await db.execute(text("SELECT 1"))
        except TimeoutError:
            raise Unavailable from None


def health_routes(service: HealthService) -> list[Route]:
    """What a load balancer or an orchestrator asks."""

    async def live(_call: Call) -> Answer:
        return answer_with(Health(status="alive"))

    async def ready(_call: Call) -> Answer:
        await service.check_ready()
        return answer_with(Health(status="ready"))

    return [
        Route("GET", "/v1/health/live", live, Doc("Whether the process answers", access=Access.ANYONE, gives=Health)),
        Route(
            "GET",
            "/v1/health/ready",
            ready,
            Doc(
                "Whether the relay should be sent requests",
                access=Access.ANYONE,
                gives=Health,
                raises=(Unavailable,),
            ),
        ),
    ]
