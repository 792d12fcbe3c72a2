"""The API reference: OpenAPI 3.1 of all methods, made from the table that the gateway itself goes by."""

import re
from collections.abc import Iterable
from typing import Any

from messaging.bots.methods import Method

_ANSWERS = {
    "200": "The method's result, under `result`.",
    "400": "It cannot be done as it is.",
    "401": "No such token, or not any more.",
    "403": "The token has not the scope.",
    "409": "Somebody else gets the updates.",
    "413": "A body or a file is too large.",
    "429": "Too many requests at the same time.",
    "503": "The bot's account is not connected.",
}
_DESCRIPTION = (
    "For bots in every language, in the shape of Telegram's Bot API, over end-to-end encrypted accounts. Methods are called by GET or POST "
    "with JSON, a form or a query; names are found in any case. Methods marked as ours are not Telegram's."
)
_OK = {
    "type": "object",
    "required": ["ok", "result"],
    "properties": {"ok": {"const": True}, "result": {}},
}
_ERROR = {
    "type": "object",
    "required": ["ok", "error_code", "description"],
    "properties": {
        "ok": {"const": False},
        "error_code": {"type": "integer"},
        "description": {"type": "string"},
        "parameters": {"type": "object", "properties": {"retry_after": {"type": "integer"}}},
    },
}
_TOKEN = {
    "name": "token",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]+:[A-Za-z0-9_-]{35,64}$"},
}
_ONCE = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A message that is sent again under the same key is sent once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
}


def describe(methods: Iterable[Method], *, version: str) -> dict[str, Any]:
    """The document."""
    schemas: dict[str, Any] = {"Error": _ERROR, "Ok": _OK}
    paths = {f"/bot{{token}}/{method.name}": {"post": _operation(method, schemas)} for method in methods}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sub Rosa bot gateway",
            "version": version,
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
            "description": _DESCRIPTION,
        },
        "paths": {
            **dict(sorted(paths.items())),
            "/bot{token}/updates": {"get": _updates()},
            "/file/bot{token}/{path}": {"get": _download()},
            "/health": {"get": _plain("health", "Whether all accounts are connected.")},
            "/openapi.json": {"get": _plain("openapi", "This document.")},
        },
        "components": {"schemas": schemas},
    }


def _operation(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    ours = " Not Telegram's." if method.ours else ""
    schema = _schema(method, schemas)
    content = {kind: {"schema": schema} for kind in ("application/json", "application/x-www-form-urlencoded")}
    if method.files:
        files = {name: {"type": "string", "format": "binary"} for name in method.files}
        with_files = {"allOf": [schema, {"type": "object", "properties": files}]}
        content = {**content, "multipart/form-data": {"schema": with_files}}
    return {
        "operationId": method.name,
        "summary": method.summary,
        "description": f"For tokens with the scope `{method.scope}`.{ours}",
        "parameters": [_TOKEN, _ONCE] if method.name.startswith("send") else [_TOKEN],
        "requestBody": {"required": bool(_required(method)), "content": content},
        "responses": _responses(),
    }


def _required(method: Method) -> list[str]:
    """The parameters that a method cannot do without."""
    return [name for name, each in method.takes.model_fields.items() if each.is_required()]


def _schema(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    found = method.takes.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(found.pop("$defs", {}))
    schemas[method.takes.__name__] = _told(found)
    return {"$ref": f"#/components/schemas/{method.takes.__name__}"}


def _told(schema: dict[str, Any]) -> dict[str, Any]:
    """Its description in one line."""
    return {**schema, "description": re.sub(r"\s+", " ", schema.get("description", ""))}


def _responses() -> dict[str, Any]:
    def answer(status: str) -> dict[str, Any]:
        name = "Ok" if status == "200" else "Error"
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    return {status: {"description": what, "content": answer(status)} for status, what in _ANSWERS.items()}


def _updates() -> dict[str, Any]:
    return {
        "operationId": "updates",
        "summary": "A WebSocket that pushes updates.",
        "description": 'Each frame is an update. Say `{"confirm": [numbers]}` when they are handled, or `{"fail": [numbers]}`.',
        "parameters": [_TOKEN],
        "responses": {"101": {"description": "The socket is open."}, **_refusals()},
    }


def _download() -> dict[str, Any]:
    path = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "operationId": "download",
        "summary": "A file, by the path that getFile tells.",
        "parameters": [_TOKEN, path],
        "responses": {
            "200": {"description": "The file.", "content": {"application/octet-stream": {}}},
            **_refusals(),
            "404": {"description": "No such file, or not any more."},
        },
    }


def _refusals() -> dict[str, Any]:
    return {status: each for status, each in _responses().items() if status in ("401", "403", "429", "503")}


def _plain(name: str, summary: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {"application/json": {}}}},
    }
