"""What a caller of the gateway is told, in the shape of Telegram's errors. No sentence holds anything that the caller sent."""

from collections.abc import Mapping
from typing import Any, ClassVar

from messaging.client.assistant_errors import AssistantError
from messaging.client.chats import NotAllowed, UnknownConversation, UnknownMessage
from messaging.client.errors import (
    AccountSuspended,
    AttachmentCorrupt,
    AttachmentMissing,
    AttachmentTooLarge,
    ClientError,
    ContentTooLarge,
    CredentialsRevoked,
    Displaced,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    StoreFailed,
    UnknownRecipient,
)


class ApiError(Exception):
    """An answer that is not ok. ``status`` is the HTTP status and the ``error_code``; ``description`` is a sentence of ours."""

    status: ClassVar[int]
    description: str = ""

    def __init__(self, description: str | None = None) -> None:
        if description is not None:
            self.description = description
        super().__init__(self.description)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Telegram's ``ResponseParameters``."""
        return {}


class BadRequest(ApiError):
    """The request cannot be done as it is."""

    status = 400
    description = "Bad Request"


class Unauthorized(ApiError):
    """No token, or one that is wrong, expired, revoked, or of a bot that is not here: all look the same."""

    status = 401
    description = "Unauthorized"


class Forbidden(ApiError):
    """The token is valid and does not allow this."""

    status = 403
    description = "Forbidden: the token has not the scope for this method"


class NotFound(ApiError):
    """No such method, or no such file."""

    status = 404
    description = "Not Found"


class Conflict(ApiError):
    """Somebody else gets the updates."""

    status = 409
    description = "Conflict"


class TooLarge(ApiError):
    """A body or a file is larger than it may be."""

    status = 413
    description = "Request Entity Too Large"


class TooSlow(ApiError):
    """The body did not come in time."""

    status = 408
    description = "Request Timeout"


class TooMany(ApiError):
    """Too many requests at the same time."""

    status = 429
    description = "Too Many Requests: retry after 1"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """When to come again, in seconds."""
        return {"retry_after": 1}


class Internal(ApiError):
    """A fault of the gateway."""

    status = 500
    description = "Internal Server Error"


class NotSupported(ApiError):
    """Telegram has this method; here is nothing that it could do."""

    status = 501
    description = "Not Implemented: there is nothing like this method here"


class Unavailable(ApiError):
    """The account is not connected now."""

    status = 503
    description = "Service Unavailable: the bot's account is not connected; it is tried again"


_REFUSED = BadRequest("Bad Request: the account could not do this")
_TOLD: Mapping[type[ClientError], ApiError] = {
    UnknownConversation: BadRequest("Bad Request: chat not found"),
    UnknownMessage: BadRequest("Bad Request: message not found"),
    NotAllowed: BadRequest("Bad Request: not enough rights"),
    ContentTooLarge: BadRequest("Bad Request: message is too long"),
    AttachmentTooLarge: TooLarge(),
    AttachmentMissing: BadRequest("Bad Request: the file is not at the relay any more"),
    AttachmentCorrupt: BadRequest("Bad Request: the file is not what its sender described"),
    RelayUnreachable: Unavailable(),
    AccountSuspended: Unavailable("Service Unavailable: the bot's account is suspended by an operator of its relay"),
    CredentialsRevoked: Unavailable(),
    Displaced: Unavailable(),
    StoreFailed: Unavailable("Service Unavailable: the gateway's disk cannot be written"),
    AssistantError: _REFUSED,
    IdentityChanged: _REFUSED,
    RelayRefused: _REFUSED,
    UnknownRecipient: _REFUSED,
}


def told_of(error: ClientError) -> ApiError:
    """How a caller is told why the account did not do it; what is not known to be theirs to mend is a fault of the gateway."""
    for kind in type(error).__mro__:
        if kind in _TOLD:
            return _TOLD[kind]
    return Internal()


def body_of(error: ApiError) -> dict[str, Any]:
    """The JSON body."""
    body: dict[str, Any] = {"ok": False, "error_code": error.status, "description": error.description}
    if error.parameters:
        body["parameters"] = dict(error.parameters)
    return body
