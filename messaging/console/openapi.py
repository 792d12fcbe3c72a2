"""The reference of the admin API: OpenAPI 3.1, made from the registry that the API itself goes by."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from messaging.console.forms import SENSITIVE, Kind, fields_of, parameter_schema
from messaging.relay.admin.desk import Action, View
from messaging.relay.admin.limits import MAX_REASON
from messaging.wire.json import Entity

_REF: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = (
    "What operators see and do in the console, for programs. Every call goes through the same permissions and the same audit log. "
    "Tokens are made in the console, have a part of their operator's permissions, and expire. What is not known in a body is refused."
)
_REFUSALS: Final = {
    "401": "No token, or one that is good no more.",
    "403": "The operator's role or the token's scope does not include this.",
    "404": "There is nothing like that.",
    "409": "It has changed meanwhile, or is done already.",
    "413": "The body is too large.",
    "422": "A parameter breaks its rule, or a reason is missing.",
    "429": "Too many calls or tries.",
    "503": "The database gives no answer, or takes no changes; look whether it was done.",
}
# Named as no entity of a domain is: entities and these stand side by side.
_SCHEMAS: Final[dict[str, Any]] = {
    "ApiError": {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string", "description": "One sentence for people."},
            "fields": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The parameters that break a rule.",
            },
        },
    },
    "ApiWaiting": {
        "type": "object",
        "required": ["code", "message", "proposal"],
        "properties": {
            "code": {"const": "second_operator_needed"},
            "message": {"type": "string"},
            "proposal": {"type": "integer"},
        },
    },
    "ApiDone": {
        "type": "object",
        "required": ["dryRun", "subject", "effects", "shown"],
        "properties": {
            "dryRun": {"type": "boolean", "description": "Whether it was only tried, and undone again."},
            "subject": {"type": "string"},
            "effects": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["what", "count"],
                    "properties": {"what": {"type": "string"}, "count": {"type": "integer"}},
                },
            },
            "shown": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "What is given out this once, such as a code.",
            },
        },
    },
    "ApiProposal": {
        "type": "object",
        "required": ["id", "action", "parameters", "reason", "subject", "operator", "at"],
        "properties": {
            "id": {"type": "integer"},
            "action": {"type": "string"},
            "parameters": {"type": "object"},
            "reason": {"type": "string"},
            "subject": {"type": "string"},
            "operator": {"type": "string"},
            "at": {"type": "integer", "description": "Milliseconds since 1970."},
        },
    },
}
_REASON: Final = {"type": "string", "maxLength": MAX_REASON, "description": "Why; it stands in the audit log."}


def describe(views: Iterable[View[Any, Any]], actions: Iterable[Action[Any]], *, version: str) -> dict[str, Any]:
    """The document. ``version`` is the console's."""
    views, actions = list(views), list(actions)
    modes: list[tuple[type[Entity], JsonSchemaMode]] = [
        *((view.takes, "validation") for view in views),
        *((view.gives, "serialization") for view in views),
        *((action.takes, "validation") for action in actions),
    ]
    refs, schemas = models_json_schema(list(dict.fromkeys(modes)), by_alias=True, ref_template=_REF)
    paths: dict[str, Any] = {f"/api/v1/views/{view.name}": _of_view(view, refs) for view in views}
    paths |= {f"/api/v1/actions/{action.name}": {"post": _of_action(action, refs)} for action in actions}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sub Rosa admin API",
            "version": version,
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
            "description": _DESCRIPTION,
        },
        "security": [{"token": []}],
        "paths": {**dict(sorted(paths.items())), **_others()},
        "components": {
            "schemas": {**schemas.get("$defs", {}), **_SCHEMAS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _of_view(view: View[Any, Any], refs: Mapping[Any, Any]) -> dict[str, Any]:
    noted = " Looking at it stands in the audit log." if view.of_account else ""
    common = {
        "summary": view.summary,
        "description": f"For tokens with `{view.permission.value}`.{noted}",
        "responses": _responses({"200": _json("What it shows.", refs[view.gives, "serialization"])}),
    }
    body = _body(refs[view.takes, "validation"], required=any(field.required for field in fields_of(view.takes)))
    told = {"post": {"operationId": f"{view.name} by a body", **common, "requestBody": body}}
    fields = fields_of(view.takes)
    if any(field.name in SENSITIVE or field.kind is Kind.JSON for field in fields):
        return told
    parameters = [
        {
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.hint,
            "schema": parameter_schema(view.takes, field.name),
        }
        for field in fields
    ]
    return {"get": {"operationId": view.name, **common, "parameters": parameters}, **told}


def _of_action(action: Action[Any], refs: Mapping[Any, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["parameters"] if any(field.required for field in fields_of(action.takes)) else [],
        "properties": {
            "parameters": refs[action.takes, "validation"],
            "reason": _REASON,
            "dryRun": {"type": "boolean", "description": "Find out what it would touch, and do nothing."},
        },
    }
    danger = " It needs a reason." if action.dangerous else ""
    done = _json("It is done, or was tried.", {"$ref": _REF.format(model="ApiDone")})
    waiting = _json("It waits for a second operator.", {"$ref": _REF.format(model="ApiWaiting")})
    return {
        "operationId": action.name,
        "summary": action.summary,
        "description": f"For tokens with `{action.permission.value}`.{danger}",
        "requestBody": _body(schema, required=True),
        "responses": _responses({"200": done, "202": waiting}),
    }


def _others() -> dict[str, Any]:
    proposals = {
        "type": "object",
        "properties": {"proposals": {"type": "array", "items": {"$ref": _REF.format(model="ApiProposal")}}},
    }
    me = {
        "type": "object",
        "required": ["name", "permissions"],
        "properties": {"name": {"type": "string"}, "permissions": {"type": "array", "items": {"type": "string"}}},
    }
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
    reason = {"type": "object", "additionalProperties": False, "properties": {"reason": _REASON}}
    rejected = {"type": "object", "required": ["rejected"], "properties": {"rejected": {"type": "integer"}}}
    done = _json("It is done.", {"$ref": _REF.format(model="ApiDone")})
    return {
        "/api/v1/me": {"get": _plain("me", "Whose token this is, and what it permits", me)},
        "/api/v1/openapi.json": {"get": _plain("openapi", "This document", {"type": "object"})},
        "/api/v1/proposals": {"get": _plain("proposals", "What waits for a second operator", proposals)},
        "/api/v1/proposals/{number}/approve": {
            "post": {
                "operationId": "approve",
                "summary": "Do what another operator has proposed",
                "parameters": [number],
                "responses": _responses({"200": done}),
            }
        },
        "/api/v1/proposals/{number}/reject": {
            "post": {
                "operationId": "reject",
                "summary": "Let nobody do what was proposed",
                "parameters": [number],
                "requestBody": _body(reason, required=False),
                "responses": _responses({"200": _json("Nobody does it.", rejected)}),
            }
        },
    }


def _plain(name: str, summary: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": _responses({"200": _json(summary, schema)})}


def _responses(good: Mapping[str, Any]) -> dict[str, Any]:
    error = {"$ref": _REF.format(model="ApiError")}
    return {**good, **{status: _json(what, error) for status, what in _REFUSALS.items()}}


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}
