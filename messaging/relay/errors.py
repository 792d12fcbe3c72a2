"""What can go wrong for a caller, and the HTTP status of each outcome.

Bodies are ``{"code": ...}``, except where Signal's clients expect an exact shape or nothing at all. An error names the
rule broken, never what broke it.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from messaging.wire.accounts import REFUSED_HEADER, SUSPENDED, RegistrationLockFailure, VerificationSession
from messaging.wire.json import json_array, json_body
from messaging.wire.keys import PreKeyResponseItem
from messaging.wire.messages import AccountMismatchedDevices, AccountStaleDevices, MismatchedDevices, StaleDevices


class StartupError(Exception):
    """The relay cannot start; the message is one sentence for the operator."""


class RelayError(Exception):
    """An outcome that the caller can act on; ``code`` is its name on the wire."""

    code: ClassVar[str]
    silent: ClassVar[bool] = False  # Signal's clients expect no body

    def body(self) -> bytes:
        """What is said, as JSON; empty means nothing."""
        return b"" if self.silent else json_body({"code": self.code})

    def headers(self) -> Mapping[str, str]:
        """Headers that belong to the outcome."""
        return {}


class NotAuthenticated(RelayError):
    """No or wrong credentials. For an unauthenticated caller also: no such account (no oracle for existence)."""

    code = "unauthorized"
    silent = True

    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": 'Basic realm="relay"'}


class Forbidden(RelayError):
    """The caller is known, or need not be, and may not do this."""

    code = "forbidden"


class AccountSuspended(RelayError):
    """An operator has suspended the account: it keeps what it has, and can neither connect nor send. Told only to who proved to be it."""

    code = SUSPENDED

    def headers(self) -> Mapping[str, str]:
        return {REFUSED_HEADER: SUSPENDED}  # of an upgrade that fails a WebSocket client sees no body


class NotFound(RelayError):
    """No such account, device or verification session."""

    code = "not_found"
    silent = True


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
        self.bundles: tuple[PreKeyResponseItem, ...] | None = None

    @property
    def needed(self) -> tuple[int, ...]:
        """The devices that the sender needs bundles of."""
        return self.missing

    def entity(self) -> MismatchedDevices:
        """What is told of one account."""
        return MismatchedDevices(missing_devices=self.missing, extra_devices=self.extra, bundles=self.bundles)

    def body(self) -> bytes:
        return self.entity().to_json()


class DevicesStale(RelayError):
    """Devices that were registered anew since the sender last looked. Nothing was stored."""

    code = "stale_devices"

    def __init__(self, stale: Iterable[int]) -> None:
        super().__init__(self.code)
        self.stale = tuple(sorted(stale))
        self.bundles: tuple[PreKeyResponseItem, ...] | None = None

    @property
    def needed(self) -> tuple[int, ...]:
        """The devices that the sender needs bundles of."""
        return self.stale

    def entity(self) -> StaleDevices:
        """What is told of one account."""
        return StaleDevices(stale_devices=self.stale, bundles=self.bundles)

    def body(self) -> bytes:
        return self.entity().to_json()


class ManyMismatched(RelayError):
    """A message to many does not name exactly the devices of these accounts. Nothing was stored."""

    code = "mismatched_devices"

    def __init__(self, accounts: Mapping[str, DevicesMismatched]) -> None:
        super().__init__(self.code)
        self.accounts = accounts

    def body(self) -> bytes:
        return json_array(
            AccountMismatchedDevices(uuid=uuid, devices=found.entity()) for uuid, found in self.accounts.items()
        )


class ManyStale(RelayError):
    """Devices of these accounts were registered anew since the sender of a message to many last looked."""

    code = "stale_devices"

    def __init__(self, accounts: Mapping[str, DevicesStale]) -> None:
        super().__init__(self.code)
        self.accounts = accounts

    def body(self) -> bytes:
        return json_array(
            AccountStaleDevices(uuid=uuid, devices=found.entity()) for uuid, found in self.accounts.items()
        )


class IdempotencyKeyReused(RelayError):
    """The key was used for another request."""

    code = "idempotency_key_reused"


class Conflict(RelayError):
    """What was asked for does not fit to how things are now; look again."""

    code = "conflict"


class Gone(RelayError):
    """What was asked for belongs to somebody else by now."""

    code = "gone"


class NotSupported(RelayError):
    """The contract has this, and this relay does not: its documentation says why."""

    code = "not_supported"


class PreconditionFailed(RelayError):
    """The request speaks another version of the upload protocol."""

    code = "unsupported_version"

    def headers(self) -> Mapping[str, str]:
        return {"Tus-Version": "1.0.0"}


class UnsupportedMediaType(RelayError):
    """The body is of another type than the endpoint takes."""

    code = "unsupported_media_type"


class KeysDiffer(RelayError):
    """The device's view of its repeated-use keys is not the relay's."""

    code = "keys_differ"
    silent = True


class CapabilityMissing(RelayError):
    """A new device lacks a capability that all devices of the account have."""

    code = "capability_missing"


class TooManyDevices(RelayError):
    """The account has as many devices as it may have."""

    code = "too_many_devices"

    def __init__(self, current: int, maximum: int) -> None:
        super().__init__(self.code)
        self.current = current
        self.maximum = maximum

    def body(self) -> bytes:
        return json_body({"code": self.code, "current": self.current, "max": self.maximum})


class RegistrationLocked(RelayError):
    """The number is proved, but the account has a registration lock, and it was not given."""

    code = "registration_locked"

    def __init__(self, time_remaining: int) -> None:
        super().__init__(self.code)
        self.time_remaining = time_remaining

    def body(self) -> bytes:
        return RegistrationLockFailure(time_remaining=self.time_remaining).to_json()


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
    """The database cannot be reached, or too much waits for it; nothing was changed, or the outcome is unknown."""

    code = "unavailable"

    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "1"}


class Internal(RelayError):
    """A fault of the relay."""

    code = "internal"


STATUS: dict[type[RelayError], int] = {
    MalformedRequest: 400,
    NotAuthenticated: 401,
    Forbidden: 403,
    AccountSuspended: 403,
    NotFound: 404,
    NoSuchPath: 404,
    NotSupported: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    DevicesMismatched: 409,
    VerificationConflict: 409,
    CapabilityMissing: 409,
    ManyMismatched: 409,
    KeysDiffer: 409,
    Conflict: 409,
    Gone: 410,
    DevicesStale: 410,
    ManyStale: 410,
    TooManyDevices: 411,
    PreconditionFailed: 412,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    InvalidRequest: 422,
    InvalidSignedKey: 422,
    IdempotencyKeyReused: 422,
    RegistrationLocked: 423,
    RateLimited: 429,
    VerificationRateLimited: 429,
    CodeNotDelivered: 440,
    Internal: 500,
    Unavailable: 503,
}
