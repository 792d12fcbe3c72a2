"""HTML of everything in the registry: a page for each view, a form for each action, and what comes of it.

Nothing here decides: ``desk`` does. An action that is dangerous is tried first, and the page says in words what it will touch; then it
asks for a reason. All of it works without scripts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from messaging.console import exports, live, page_map, translate
from messaging.console.asked import asked, fields_of_address
from messaging.console.assets import asset_routes, read_assets
from messaging.console.forms import SENSITIVE, Field, clean_text, fields_of, read_parameters
from messaging.console.guards import FIGURES_PATH
from messaging.console.page_map import CURSORS, domain_of
from messaging.console.parts import CONSOLE, OPERATOR
from messaging.console.rendering import FOLDER, LANGUAGE_COOKIE, THEME_COOKIE, THEMES, render
from messaging.console.translate import N_
from messaging.console.waiting import proposal_of, proposals_for
from messaging.relay.admin.desk import Action, View, act, approve, look, reject, require_permitted
from messaging.relay.admin.errors import InvalidInput, NothingThere, ReasonNeeded, SecondOperatorNeeded
from messaging.relay.admin.limits import MAX_REASON
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.wire.json import Entity


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the overview: up to two series of ``live``, and what their values are."""

    name: str
    title: str
    series: tuple[tuple[str, str], ...]  # of live.SERIES, and what it is called
    kind: str  # rate, seconds or number


CHARTS: Final = (
    Chart("traffic", N_("Envelopes a second"), (("stored", N_("taken")), ("delivered", N_("delivered"))), "rate"),
    Chart(
        "delay",
        N_("From taken to delivered"),
        (("delivery_p50", N_("median")), ("delivery_p95", N_("95th percentile"))),
        "seconds",
    ),
    Chart("sockets", N_("Open sockets"), (("sockets", N_("sockets")),), "number"),
    Chart(
        "errors", N_("Errors and requests a second"), (("errors", N_("errors")), ("requests", N_("requests"))), "rate"
    ),
)

OVERVIEW: Final = "overview.show"
TABLE_POINTS: Final = 12  # of each chart, in words: the last minute
_TIME_DIGITS = 15  # of milliseconds
_YEAR = 365 * 24 * 3600


def routes() -> list[web.RouteDef]:
    """All pages, and what they are made of."""
    return [
        *asset_routes(read_assets()),
        web.get("/", get_overview),
        *exports.routes(),
        web.get(FIGURES_PATH, get_live),
        web.get("/views/{name}.json", get_view_as_json),
        web.get("/views/{name}", get_view),
        web.post("/views/{name}", get_view),
        web.get("/actions/{name}", get_action),
        web.post("/actions/{name}", post_action),
        web.get("/approvals", get_approvals),
        web.post("/approvals/{number}/{decision}", post_decision),
        web.post("/preferences", post_preferences),
    ]


async def get_overview(request: web.Request) -> web.StreamResponse:
    """The first page; who may not see figures comes to the first page that they may see."""
    operator = request[OPERATOR]
    if VIEWS[OVERVIEW].permission not in operator.permissions:
        raise web.HTTPSeeOther(next(item.address for _, items in page_map.navigation(operator) for item in items))
    shown = await _look(request, VIEWS[OVERVIEW], {})
    figures = {
        "points": request.app[CONSOLE].live.points[-TABLE_POINTS:],
        "address": FIGURES_PATH,
        "period": live.READ_SECONDS,
        "kept": live.KEPT,
        "tabled": TABLE_POINTS,
    }
    return render(request, "overview.html", {**_of_view(VIEWS[OVERVIEW], {}, shown), "live": figures, "charts": CHARTS})


async def get_live(request: web.Request) -> web.StreamResponse:
    """The figures of the last hour, or those after ``since``, for the charts."""
    await require_permitted(request.app[CONSOLE].desk, request[OPERATOR], VIEWS[OVERVIEW])
    since = request.query.get("since", "0")
    after = int(since) if since.isascii() and since.isdecimal() and len(since) <= _TIME_DIGITS else 0
    return web.json_response(request.app[CONSOLE].live.series(after))


async def get_view(request: web.Request) -> web.StreamResponse:
    """A view: its form, where it needs something to be typed, and what it shows."""
    view = await asked(request, VIEWS)
    typed = await _typed(request)
    template = _template_of(view.name)
    if not typed and not page_map.stands_alone(view):
        return render(request, template, _of_view(view, typed, None))
    try:
        shown = await _look(request, view, typed)
    except InvalidInput as error:
        return render(request, template, _of_view(view, typed, None, error), status=error.status)
    return render(request, template, _of_view(view, typed, shown))


async def get_view_as_json(request: web.Request) -> web.StreamResponse:
    """What a view shows, to be kept as a file."""
    view = await asked(request, VIEWS)
    shown = await _look(request, view, await _typed(request))
    body = json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True).encode()
    headers = {"Content-Disposition": f'attachment; filename="{view.name}.json"'}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def get_action(request: web.Request) -> web.StreamResponse:
    """The form of an action."""
    action = await asked(request, ACTIONS)
    return render(request, "action.html", _of_action(action, await _typed(request)))


async def post_action(request: web.Request) -> web.StreamResponse:
    """Try an action that is dangerous, or do it."""
    action, operator, desk = await asked(request, ACTIONS), request[OPERATOR], request.app[CONSOLE].desk
    typed = await _typed(request)
    step, reason = _last(typed, "step"), _last(typed, "reason")
    form = _of_action(action, typed)
    try:
        parameters = read_parameters(action.takes, typed)
        clean_text(reason, "reason")
        if action.dangerous and step != "do":
            tried = await act(desk, action, operator, parameters, dry_run=True)
            return render(request, "confirm.html", {**form, "tried": tried, "max_reason": MAX_REASON})
        done = await act(desk, action, operator, parameters, reason=reason)
    except SecondOperatorNeeded as waiting:
        return render(request, "waiting.html", {**form, "proposal": waiting.proposal}, status=waiting.status)
    except ReasonNeeded as error:
        tried = await act(desk, action, operator, read_parameters(action.takes, typed), dry_run=True)
        context = {**form, "tried": tried, "max_reason": MAX_REASON, "missing": str(error), "reason": reason}
        return render(request, "confirm.html", context, status=error.status)
    except InvalidInput as error:
        return render(request, "action.html", _of_action(action, typed, error), status=error.status)
    return render(request, "done.html", {**form, "done": done})


async def get_approvals(request: web.Request) -> web.StreamResponse:
    """What waits for a second operator, of what this one may do or has proposed."""
    mine = await proposals_for(request)
    return render(request, "approvals.html", {"waiting": mine, "domain": "approvals"})


async def post_decision(request: web.Request) -> web.StreamResponse:
    """Approve or reject what another operator has proposed."""
    desk, operator, decision = request.app[CONSOLE].desk, request[OPERATOR], request.match_info["decision"]
    if decision not in {"approve", "reject"}:
        raise NothingThere
    proposal = await proposal_of(request)
    action = ACTIONS[proposal.action]
    if decision == "reject":
        reason = clean_text(_last(await _typed(request), "reason"), "reason")
        await reject(desk, action, operator, proposal, reason=reason)
        raise web.HTTPSeeOther("/approvals")
    done = await approve(desk, action, operator, proposal)
    return render(request, "done.html", {**_of_action(action, {}), "done": done})


async def post_preferences(request: web.Request) -> web.StreamResponse:
    """Language and theme, which this browser remembers."""
    typed = await _typed(request)
    back = _last(typed, "back")
    # A path of our own and nothing else: what begins with two strokes is another host to browsers.
    safe = back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"
    answer = web.HTTPSeeOther(safe)
    for cookie, values in ((THEME_COOKIE, THEMES), (LANGUAGE_COOKIE, translate.LANGUAGES)):
        chosen = _last(typed, cookie)
        if chosen in values:
            answer.set_cookie(
                cookie,
                chosen,
                max_age=_YEAR,
                path="/",
                httponly=True,
                samesite="Strict",
                secure=request.app[CONSOLE].site.is_secure,
            )
    return answer


async def _look(request: web.Request, view: View[Any, Any], typed: Mapping[str, list[str]]) -> dict[str, Any]:
    shown: Entity = await look(request.app[CONSOLE].desk, view, request[OPERATOR], read_parameters(view.takes, typed))
    found: dict[str, Any] = shown.model_dump(mode="json", by_alias=True)
    return found


async def _typed(request: web.Request) -> dict[str, list[str]]:
    """Fields of the address, or of the form where there is one.

    Raises:
        InvalidInput: the address has a field that must not stand in one.
    """
    typed = fields_of_address(request)
    if request.method == "POST":
        form = await request.post()  # guards let no files in
        typed = {name: list(map(str, form.getall(name))) for name in form}
    return typed


def _last(typed: Mapping[str, list[str]], name: str) -> str:
    return typed.get(name, [""])[-1]


def _of_view(
    view: View[Any, Any],
    typed: Mapping[str, list[str]],
    shown: Mapping[str, Any] | None,
    error: InvalidInput | None = None,
) -> dict[str, Any]:
    fields = page_map.filters_of(view)
    return {
        "view": view,
        "domain": domain_of(view.name),
        "fields": fields,
        "typed": _harmless(typed),
        "wrong": _wrong(error),
        "shown": shown,
        "at_hand": _at_hand(view, typed, shown),
        "form_method": "post" if any(field.name in SENSITIVE for field in fields) else "get",
        "older": _older(view, typed, shown),
        "as_json": _as_json(view, typed),
    }


def _at_hand(view: View[Any, Any], typed: Mapping[str, list[str]], shown: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the page is about: its parameters, and what it shows of one thing. ``seen`` is the version that is shown."""
    given = {name: values[-1] for name, values in typed.items() if name in _names(view) - SENSITIVE - CURSORS}
    told = {name: value for name, value in (shown or {}).items() if isinstance(value, str | int) and name != "version"}
    version = {} if shown is None or "version" not in shown else {"seen": shown["version"]}
    return {**given, **told, **version}


def _names(view: View[Any, Any]) -> set[str]:
    return {field.name for field in fields_of(view.takes)}


def _older(view: View[Any, Any], typed: Mapping[str, list[str]], shown: Mapping[str, Any] | None) -> str:
    """The address at which a list goes on; empty if it does not."""
    takes = _names(view)
    cursors = {name: shown[name] for name in CURSORS & takes if shown and shown.get(name) is not None}
    if shown and shown.get("next") is not None:
        cursors = {name: shown["next"] for name in ("before", "after") if name in takes}
    if not cursors or SENSITIVE & typed.keys():
        return ""
    kept = [(name, value) for name, values in typed.items() for value in values if name in takes - CURSORS and value]
    return f"/views/{view.name}?{urlencode([*kept, *cursors.items()])}"


def _as_json(view: View[Any, Any], typed: Mapping[str, list[str]]) -> str:
    if SENSITIVE & typed.keys():
        return ""
    takes = _names(view)
    query = urlencode([(name, value) for name, values in typed.items() for value in values if name in takes and value])
    return f"/views/{view.name}.json" + (f"?{query}" if query else "")


def _of_action(
    action: Action[Any], typed: Mapping[str, list[str]], error: InvalidInput | None = None
) -> dict[str, Any]:
    fields = fields_of(action.takes)
    return {
        "action": action,
        "domain": domain_of(action.name),
        "fields": fields,
        "secret_fields": {field.name for field in fields if _is_secret(action, field)},
        "typed": _harmless(typed, {field.name for field in fields if _is_secret(action, field)}),
        "wrong": _wrong(error),
        "back": page_map.main_of(domain_of(action.name)),
    }


def _is_secret(action: Action[Any], field: Field) -> bool:
    """Whether what was typed is not written into a page again."""
    unlogged = action.parameters_for_log is not None and field.name not in action.parameters_for_log
    return unlogged or field.name in SENSITIVE


def _harmless(typed: Mapping[str, list[str]], secret: set[str] | frozenset[str] = SENSITIVE) -> dict[str, list[str]]:
    return {name: values for name, values in typed.items() if name not in secret | SENSITIVE}


def _wrong(error: InvalidInput | None) -> dict[str, Any]:
    return {"fields": () if error is None else error.fields, "sentence": "" if error is None else str(error)}


def _template_of(name: str) -> str:
    """A template of its own for some views, the plain one for all others."""
    own = f"views/{name}.html"
    return own if (FOLDER / own).is_file() else "view.html"
