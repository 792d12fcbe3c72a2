"""What can go wrong for a caller, and the HTTP status of each outcome.

Bodies are ``{"code": ...}``, except where Signal's clients expect an exact shape or nothing at all. An error names the
rule broken, never what broke it.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from messaging.wire.accounts import VerificationSession
from messaging.wire.json import json_body
from messaging.wire.messages import MismatchedDevices, StaleDevices


class StartupError(Exception):
    """The relay cannot start; the message is one sentence for the operator."""


class RelayError(Exception):
    """An outcome that the caller can act on; ``code`` is its name on the wire."""

    code: ClassVar[str]

    def body(self) -> bytes:
        """What is said, as JSON; empty means nothing."""
        return json_body({"code": self.code})

    def headers(self) -> Mapping[str, str]:
        """Headers that belong to the outcome."""
        return {}


class NotAuthenticated(RelayError):
    """No or wrong credentials. For an unauthenticated caller also: no such account (no oracle for existence)."""

    code = "unauthorized"

    def body(self) -> bytes:
        return b""

    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": 'Basic realm="relay"'}


class Forbidden(RelayError):
    """The caller is known, or need not be, and may not do this."""

    code = "forbidden"


class NotFound(RelayError):
    """No such account, device or verification session."""

    code = "not_found"

    def body(self) -> bytes:
        return b""


class NoSuchPath(RelayError):
    """The relay has no such endpoint."""

    code = "no_such_path"


class MethodNotAllowed(RelayError):
    """The endpoint exists, but not for this verb."""

    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__(self.code)
        self.allowed = ", ".join(sorted(allowed))

    def headers(self) -> Mapping[str, str]:
        return {"Allow": self.allowed}


class MalformedRequest(RelayError):
    """The body is not JSON, or a parameter contradicts another."""

    code = "malformed"


class InvalidRequest(RelayError):
    """Well-formed, but a value breaks a rule; ``fields`` names the members concerned."""

    code = "invalid"

    def __init__(self, *fields: str) -> None:
        super().__init__(self.code)
        self.fields = fields

    def body(self) -> bytes:
        return json_body({"code": self.code, "fields": self.fields})


class InvalidSignedKey(RelayError):
    """A public key without its form, or a signature that the identity key did not make."""

    code = "invalid_signature"


class RequestTimeout(RelayError):
    """The body did not arrive in time."""

    code = "request_timeout"


class TooLarge(RelayError):
    """A body, or the content for one device, is beyond its limit."""

    code = "too_large"


class RateLimited(RelayError):
    """Too often; ``retry_after`` is in seconds, at least 1."""

    code = "rate_limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__(self.code)
        self.retry_after = max(1, retry_after)

    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class DevicesMismatched(RelayError):
    """The devices named are not exactly the devices registered. Nothing was stored."""

    code = "mismatched_devices"

    def __init__(self, *, missing: Iterable[int], extra: Iterable[int]) -> None:
        super().__init__(self.code)
        self.missing = tuple(sorted(missing))
        self.extra = tuple(sorted(extra))

    def body(self) -> bytes:
        return MismatchedDevices(missing_devices=self.missing, extra_devices=self.extra).to_json()


class DevicesStale(RelayError):
    """Devices that were registered anew since the sender last looked. Nothing was stored."""

    code = "stale_devices"

    def __init__(self, stale: Iterable[int]) -> None:
        super().__init__(self.code)
        self.stale = tuple(sorted(stale))

    def body(self) -> bytes:
        return StaleDevices(stale_devices=self.stale).to_json()


class VerificationConflict(RelayError):
    """The verification session is in another state: verified already, or no code was requested."""

    code = "verification_conflict"

    def __init__(self, session: VerificationSession) -> None:
        super().__init__(self.code)
        self.session = session

    def body(self) -> bytes:
        return self.session.to_json()


class VerificationRateLimited(RateLimited):
    """Too many codes or attempts in one verification session."""

    def __init__(self, session: VerificationSession, retry_after: int | None) -> None:
        super().__init__(retry_after or 1)
        self.session = session
        self.can_retry = retry_after is not None

    def body(self) -> bytes:
        return self.session.to_json()

    def headers(self) -> Mapping[str, str]:
        return super().headers() if self.can_retry else {}


class CodeNotDelivered(RelayError):
    """The provider could not deliver the code now, or, if ``permanent``, never will."""

    code = "code_not_delivered"

    def __init__(self, *, permanent: bool) -> None:
        super().__init__(self.code)
        self.permanent = permanent

    def body(self) -> bytes:
        reason = "providerRejected" if self.permanent else "providerUnavailable"
        return json_body({"reason": reason, "permanentFailure": self.permanent})


class Unavailable(RelayError):
    """The database cannot be reached; nothing was changed, or the outcome is unknown."""

    code = "unavailable"


class Internal(RelayError):
    """A fault of the relay."""

    code = "internal"


STATUS: dict[type[RelayError], int] = {
    MalformedRequest: 400,
    NotAuthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    NoSuchPath: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    DevicesMismatched: 409,
    VerificationConflict: 409,
    DevicesStale: 410,
    TooLarge: 413,
    InvalidRequest: 422,
    InvalidSignedKey: 422,
    RateLimited: 429,
    VerificationRateLimited: 429,
    CodeNotDelivered: 440,
    Internal: 500,
    Unavailable: 503,
}
