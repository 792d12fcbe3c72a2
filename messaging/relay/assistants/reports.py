"""What an assistant reports for operators to see: evidence over a nonce of the relay's, and its load.

The relay cannot read evidence (it imports none of ``attestation``). It draws the nonce, takes it back once, and keeps what
answered it; the console appraises, when somebody looks. So a report proves nothing here, and nothing in the relay rests on one.
Nonces and reports are counted together: what an assistant has the database write is bounded.
"""

import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.assistants.tables import asked, lock_assistant, note_release, write_report
from messaging.relay.database import Database
from messaging.relay.errors import Forbidden, InvalidRequest
from messaging.relay.http import NO_CONTENT, Answer, Call, Caller, Doc, Route, answer_with
from messaging.relay.limits import Limit, RateLimits
from messaging.wire.assistants import AssistantReport, ReportNonce
from messaging.wire.limits import NONCE

NONCE_RENEWED: Final = 5 * 60 * 1000  # milliseconds after which another nonce is drawn
NONCE_TAKEN: Final = 10 * 60 * 1000  # for so long one is taken: hardware may need its time


@dataclass(frozen=True, slots=True)
class ReportService:
    """Takes the reports of assistants. ``now`` gives milliseconds since 1970."""

    database: Database
    now: Callable[[], int]
    limits: RateLimits

    async def admit(self, caller: Caller) -> None:
        """Count a nonce that is asked for, or a report.

        Raises:
            RateLimited: too many of this account.
        """
        await self.limits.take(Limit.ASSISTANT_REPORT, caller.account_id, account=caller.account_id)

    async def nonce(self, name: str, caller: Caller) -> ReportNonce:
        """What the next report has to answer: the same until it is answered or ``NONCE_RENEWED`` old.

        Raises:
            Forbidden: the caller is not the assistant of this name.
        """
        async with self.database.begin() as db:
            if not await lock_assistant(db, caller.account_id, name):
                raise Forbidden
            found, now = await asked(db, caller.account_id), self.now()
            if found is not None and now - found.at < NONCE_RENEWED:
                return ReportNonce(nonce=found.nonce)
            nonce = secrets.token_bytes(NONCE)
            await write_report(db, caller.account_id, {"nonce": nonce, "nonce_at": now})
        return ReportNonce(nonce=nonce)

    async def take(self, name: str, caller: Caller, report: AssistantReport) -> None:
        """Keep a report; one without evidence leaves the last evidence as it is.

        Raises:
            Forbidden: the caller is not the assistant of this name.
            InvalidRequest: the evidence answers no nonce that was drawn for it, or one that is too old or was answered.
        """
        async with self.database.begin() as db:
            if not await lock_assistant(db, caller.account_id, name):
                raise Forbidden
            now, evidence = self.now(), report.evidence
            values = {"load": json.loads(report.load.to_json()), "reported_at": now}
            if evidence is not None:
                found = await asked(db, caller.account_id)
                answers = found is not None and hmac.compare_digest(found.nonce, evidence.nonce)
                if found is None or not answers or now - found.at >= NONCE_TAKEN:
                    raise InvalidRequest("nonce")
                values |= {"nonce": None, "nonce_at": None}
                values |= {"evidence_nonce": evidence.nonce, "evidence_at": found.at, "bundle": evidence.bundle}
                await note_release(db, caller.account_id, evidence.release, evidence.measurement, now=now)
            await write_report(db, caller.account_id, values)


def report_routes(service: ReportService, authentication: Authentication) -> list[Route]:
    """The routes by which an enclave reports."""

    async def get_report(call: Call) -> Answer:
        caller = await authentication.require(call)
        await service.admit(caller)
        return answer_with(await service.nonce(call.parameters["name"], caller))

    async def put_report(call: Call) -> Answer:
        caller = await authentication.require(call)
        await service.admit(caller)
        await service.take(call.parameters["name"], caller, call.entity(AssistantReport))
        return NO_CONTENT

    path = "/v1/assistants/{name}/report"
    return [
        Route(
            "GET",
            path,
            get_report,
            Doc(
                "The nonce that an assistant's next report has to answer; for its own device",
                gives=ReportNonce,
                raises=(Forbidden,),
            ),
        ),
        Route(
            "PUT",
            path,
            put_report,
            Doc(
                "Tell the operator that an assistant runs, where, and its load in steps; from its own device",
                takes=AssistantReport,
                status=204,
                raises=(Forbidden,),
            ),
        ),
    ]
