"""The admin API: the registry as JSON under ``/api/v1``, for programs with a token and for ``subrosa admin``.

A view is read with its parameters in the query, or in a body where they must not stand in an address. An action takes a body:
``{"parameters": {...}, "reason": "...", "dryRun": false}``. What goes wrong is ``{"code", "message", "fields"?}``.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web

from messaging.console.asked import asked, fields_of_address
from messaging.console.forms import UNKNOWN, checked, clean_text, read_parameters
from messaging.console.openapi import describe
from messaging.console.parts import CONSOLE, OPERATOR
from messaging.console.waiting import proposal_of, proposals_for
from messaging.relay.admin.desk import Done, View, act, approve, look, reject
from messaging.relay.admin.errors import InvalidInput, TooManyTries
from messaging.relay.admin.limits import API_CALLS
from messaging.relay.admin.proposals import Proposal
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.buckets import LocalBuckets
from messaging.relay.limits import Bucket
from messaging.wire.json import Entity

PREFIX: Final = "/api/v1"
CALLS: Final = Bucket(API_CALLS, 60 / API_CALLS, fail_open=False)
_MEMBERS: Final = {"parameters": dict, "reason": str, "dryRun": bool}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes() -> list[web.RouteDef]:
    """All of the API."""
    levels, document = LocalBuckets(time.monotonic), _document()

    async def get_document(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    def counted(handler: Handler) -> Handler:
        """Nobody calls too often."""

        async def answer(request: web.Request) -> web.StreamResponse:
            await _count(levels, request)
            return await handler(request)

        return answer

    return [
        web.get(f"{PREFIX}/openapi.json", counted(get_document)),
        web.get(f"{PREFIX}/me", counted(get_me)),
        web.get(PREFIX + "/views/{name}", counted(get_view)),
        web.post(PREFIX + "/views/{name}", counted(post_view)),
        web.post(PREFIX + "/actions/{name}", counted(post_action)),
        web.get(f"{PREFIX}/proposals", counted(get_proposals)),
        web.post(PREFIX + "/proposals/{number}/approve", counted(post_approval)),
        web.post(PREFIX + "/proposals/{number}/reject", counted(post_rejection)),
    ]


@cache
def _document() -> bytes:
    return json.dumps(describe(VIEWS.values(), ACTIONS.values(), version=version("subrosa"))).encode()


async def get_me(request: web.Request) -> web.StreamResponse:
    """Who asks, and what they may."""
    operator = request[OPERATOR]
    return web.json_response(
        {"name": operator.name, "permissions": sorted(each.value for each in operator.permissions)}
    )


async def get_view(request: web.Request) -> web.StreamResponse:
    """What a view shows."""
    view = await asked(request, VIEWS)
    return await _look(request, view, read_parameters(view.takes, fields_of_address(request)))


async def post_view(request: web.Request) -> web.StreamResponse:
    """The same, with the parameters in the body."""
    view = await asked(request, VIEWS)
    return await _look(request, view, checked(view.takes, await _body(request)))


async def post_action(request: web.Request) -> web.StreamResponse:
    """Do something, or try it."""
    action = await asked(request, ACTIONS)
    body = _with_only(_MEMBERS, await _body(request))
    dry_run = body.get("dryRun", False)
    done = await act(
        request.app[CONSOLE].desk,
        action,
        request[OPERATOR],
        checked(action.takes, body.get("parameters", {})),
        reason=clean_text(body.get("reason", ""), "reason"),
        dry_run=dry_run,
    )
    return _done(done, dry_run=dry_run)


async def get_proposals(request: web.Request) -> web.StreamResponse:
    """What waits for a second operator, of what this one may do or has proposed."""
    return web.json_response({"proposals": [_told(each) for each in await proposals_for(request)]})


async def post_approval(request: web.Request) -> web.StreamResponse:
    """Do what another operator has proposed."""
    proposal = await proposal_of(request)
    action = ACTIONS[proposal.action]
    return _done(await approve(request.app[CONSOLE].desk, action, request[OPERATOR], proposal), dry_run=False)


async def post_rejection(request: web.Request) -> web.StreamResponse:
    """Let nobody do it."""
    proposal = await proposal_of(request)
    reason = clean_text(_with_only({"reason": str}, await _body(request)).get("reason", ""), "reason")
    await reject(request.app[CONSOLE].desk, ACTIONS[proposal.action], request[OPERATOR], proposal, reason=reason)
    return web.json_response({"rejected": proposal.id})


async def _count(levels: LocalBuckets, request: web.Request) -> None:
    operator = request[OPERATOR]
    level = await levels.take(("api", operator.id, operator.token_id), CALLS, 1)
    if not level.taken:
        raise TooManyTries


async def _look(request: web.Request, view: View[Any, Any], parameters: Entity) -> web.Response:
    shown = await look(request.app[CONSOLE].desk, view, request[OPERATOR], parameters)
    return web.Response(body=shown.model_dump_json(by_alias=True).encode(), content_type="application/json")


def _done(done: Done, *, dry_run: bool) -> web.Response:
    return web.json_response(
        {
            "dryRun": dry_run,
            "subject": done.subject,
            "effects": [{"what": effect.what, "count": effect.count} for effect in done.effects],
            "shown": dict(done.shown),
        }
    )


def _told(proposal: Proposal) -> dict[str, Any]:
    return {
        "id": proposal.id,
        "action": proposal.action,
        "parameters": dict(proposal.parameters),
        "reason": proposal.reason,
        "subject": proposal.subject,
        "operator": proposal.operator,
        "at": proposal.at,
    }


async def _body(request: web.Request) -> dict[str, Any]:
    """A JSON object; nothing at all is an empty one.

    Raises:
        InvalidInput: it is not one.
    """
    data = await request.read()
    try:
        body = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        raise InvalidInput((), "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise InvalidInput((), "The body is not a JSON object.")
    return body


def _with_only(members: Mapping[str, type], body: dict[str, Any]) -> dict[str, Any]:
    """``body``, in which any of these members may stand. One that is misspelt, such as ``dryrun``, is not passed over.

    Raises:
        InvalidInput: a member is of another kind, or none of these.
    """
    bad = tuple(name for name, kind in members.items() if not isinstance(body.get(name, kind()), kind))
    if bad:
        raise InvalidInput(bad)
    if body.keys() - members.keys():
        raise InvalidInput((), UNKNOWN)
    return body
