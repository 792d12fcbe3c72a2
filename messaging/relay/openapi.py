"""The API reference: OpenAPI 3.1 of all endpoints, made from the routes and the entities that they take and give.

What is on the socket alone, and the uploads and downloads of attachments, are described in ``docs/protocol.md``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from messaging.relay.errors import (
    STATUS,
    AccountSuspended,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    RateLimited,
    RelayError,
    TooLarge,
    Unavailable,
)
from messaging.relay.http import Access, Answer, Call, Doc, Route
from messaging.wire.json import Entity, json_body
from messaging.wire.messages import ACCESS_KEY_HEADER

_SCHEMAS = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)}")
_WITH_CREDENTIALS = frozenset(Access) - {Access.ANYONE, Access.NOBODY_KNOWN}
_OF_AN_ACCOUNT = _WITH_CREDENTIALS - {Access.KEY}  # who calls may be an account that is suspended
_CAPABILITIES = {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 64}
_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "string"}, "fields": {"type": "array", "items": {"type": "string"}}},
}


class _Schemas(GenerateJsonSchema):
    """Bytes travel as base64."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:  # noqa: ARG002 - pydantic's signature
        """Text; its lengths follow in ``_with_text_lengths``."""
        return {"type": "string", "contentEncoding": "base64"}


def _with_text_lengths(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Lengths of bytes as lengths of their base64: at least without padding, at most with it."""
    if isinstance(schema, list):
        return [_with_text_lengths(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _with_text_lengths(value) for name, value in schema.items()}
    if found.get("contentEncoding") == "base64":
        if "minLength" in found:
            found["minLength"] = -(-found["minLength"] * 4 // 3)
        if "maxLength" in found:
            found["maxLength"] = -(-found["maxLength"] // 3) * 4
    return found


def describe(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """The document. ``version`` is the relay's."""
    known = sorted(routes, key=lambda route: (route.template, route.verb))
    entities = sorted({entity for route in known for entity in _entities(route.doc)}, key=lambda kind: kind.__name__)
    _, schemas = models_json_schema(
        [(entity, "validation") for entity in entities], ref_template=_SCHEMAS, schema_generator=_Schemas
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        paths.setdefault(route.template, {})[route.verb.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sub Rosa relay",
            "version": version,
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
            "description": "Signal-Server's chat-service contract, with additions. Every endpoint is also reached through "
            "the WebSocket at /v1/websocket/; see docs/protocol.md.",
        },
        "paths": paths,
        "components": {
            "schemas": {**_with_text_lengths(schemas.get("$defs", {})), "Error": _ERROR},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "accessKey": {"type": "apiKey", "in": "header", "name": ACCESS_KEY_HEADER},
            },
        },
    }


OPENAPI_DOC = Doc("This document", Access.ANYONE)


def openapi_route(routes: Sequence[Route], *, version: str) -> Route:
    """The route that serves the document; it is made when somebody asks for it first."""

    @cache
    def answer() -> Answer:
        return Answer(200, json_body(describe(routes, version=version)), {"Content-Type": "application/json"})

    async def get_openapi(_call: Call) -> Answer:
        return answer()

    return Route("GET", "/v1/openapi.json", get_openapi, OPENAPI_DOC)


def _entities(doc: Doc) -> list[type[Entity]]:
    return [kind for kind in (doc.takes, doc.gives) if isinstance(kind, type) and issubclass(kind, Entity)]


def _operation(route: Route) -> dict[str, Any]:
    doc = route.doc
    operation: dict[str, Any] = {
        "operationId": f"{route.verb.lower()} {route.template}",
        "summary": doc.summary,
        "description": f"For {doc.access.value}.",
        "parameters": _parameters(route),
        "responses": _responses(doc),
    }
    security: dict[Access, list[dict[str, list[str]]]] = {
        Access.DEVICE_OR_KEY: [{"basic": []}, {"accessKey": []}],
        Access.KEY: [{"accessKey": []}],
        Access.ANYONE: [],
        Access.NOBODY_KNOWN: [],
    }
    operation["security"] = security.get(doc.access, [{"basic": []}])
    if doc.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(doc.takes)}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    names = _PARAMETER.findall(route.template)
    found = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    for place, parameters in (("query", route.doc.query), ("header", route.doc.headers)):
        found += [
            {"name": name, "in": place, "required": False, "description": meaning, "schema": text}
            for name, meaning in parameters.items()
        ]
    return found


def _responses(doc: Doc) -> dict[str, Any]:
    responses: dict[str, Any] = {str(doc.status): _answer(doc)}
    for status in doc.also:
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
    for error in _errors(doc):
        status = STATUS[error]
        told = responses.setdefault(str(status), {"description": ""})
        if not error.silent:
            told.setdefault("content", _json({"$ref": "#/components/schemas/Error"}))
        first_line = (error.__doc__ or "").strip().splitlines()[0]
        told["description"] = f"{told['description']} {first_line}".strip()
    return dict(sorted(responses.items()))


def _errors(doc: Doc) -> list[type[RelayError]]:
    errors: list[type[RelayError]] = [*doc.raises, RateLimited, Unavailable]
    if doc.access in _WITH_CREDENTIALS:
        errors.append(NotAuthenticated)
    if doc.access in _OF_AN_ACCOUNT:
        errors.append(AccountSuspended)
    if doc.takes is not None:
        errors += [MalformedRequest, TooLarge]
    if (doc.takes is not None and not isinstance(doc.takes, str)) or doc.headers:
        errors.append(InvalidRequest)
    return sorted(set(errors), key=lambda error: (STATUS[error], error.__name__))


def _answer(doc: Doc) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": doc.summary}
    if doc.gives is not None and not doc.empty_too:
        answer["content"] = _json({"$ref": f"#/components/schemas/{doc.gives.__name__}"})
    return answer


def _content(takes: type[Any] | str) -> dict[str, Any]:
    if isinstance(takes, str):
        return {takes: {"schema": {"type": "string", "format": "binary"}}}
    if issubclass(takes, Entity):
        return _json({"$ref": f"#/components/schemas/{takes.__name__}"})
    return _json(_CAPABILITIES)


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
