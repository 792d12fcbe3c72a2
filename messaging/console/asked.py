"""What a request asks for: a view or an action, which its operator may have (that is found out first), and fields of its address."""

from collections.abc import Mapping
from typing import Any, TypeVar

from aiohttp import web

from messaging.console.forms import SENSITIVE
from messaging.console.parts import CONSOLE, OPERATOR
from messaging.relay.admin.desk import Action, View, require_permitted
from messaging.relay.admin.errors import InvalidInput, NothingThere

T = TypeVar("T", View[Any, Any], Action[Any])


async def asked(request: web.Request, registry: Mapping[str, T]) -> T:
    """The one that the path names.

    Raises:
        NothingThere: there is none of this name.
        NotPermitted: not for this operator; that is in the audit log.
    """
    found = registry.get(request.match_info["name"])
    if found is None:
        raise NothingThere
    await require_permitted(request.app[CONSOLE].desk, request[OPERATOR], found)
    return found


def fields_of_address(request: web.Request) -> dict[str, list[str]]:
    """Each field of the query, with all that is given for it.

    Raises:
        InvalidInput: one of them must stand in no address.
    """
    secret = tuple(sorted(SENSITIVE & request.query.keys()))
    if secret:
        raise InvalidInput(secret, "Send this in the body of a POST: addresses are kept in too many places.")
    return {name: request.query.getall(name) for name in request.query}
