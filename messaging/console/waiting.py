"""What waits for a second operator, as pages and the API see it."""

from typing import Final

from aiohttp import web

from messaging.console.parts import CONSOLE, OPERATOR
from messaging.relay.admin.desk import Operator
from messaging.relay.admin.errors import NothingThere
from messaging.relay.admin.proposals import Proposal, find_proposal, waiting_proposals
from messaging.relay.admin.registry import ACTIONS

_MAX_NUMBER: Final = 2**63 - 1
_MAX_DIGITS: Final = 19


async def proposals_for(request: web.Request) -> list[Proposal]:
    """All that wait, of what this operator has proposed or could do."""
    desk = request.app[CONSOLE].desk
    async with desk.database.read() as db:
        waiting = await waiting_proposals(db, now=desk.now())
    return [each for each in waiting if may_see(request[OPERATOR], each)]


def may_see(operator: Operator, proposal: Proposal) -> bool:
    """Whether it is their own, or of something that they may do."""
    action = ACTIONS.get(proposal.action)
    return action is not None and (proposal.operator_id == operator.id or action.permission in operator.permissions)


async def proposal_of(request: web.Request) -> Proposal:
    """The proposal whose number stands in the path.

    Raises:
        NothingThere: there is none that this operator may see.
    """
    number = request.match_info["number"]
    if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS and int(number) <= _MAX_NUMBER):
        raise NothingThere
    async with request.app[CONSOLE].desk.database.read() as db:
        proposal = await find_proposal(db, int(number))
    if proposal is None or not may_see(request[OPERATOR], proposal):
        raise NothingThere
    return proposal
