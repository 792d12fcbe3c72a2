"""Who may fetch keys of an account, or send to it, without saying who they are.

Source: Signal-Server, ``OptionalAccess``.
"""

import hmac
import secrets

from messaging.relay.accounts.tables import Account
from messaging.relay.errors import NotAuthenticated, NotFound
from messaging.relay.http import Call, Caller
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.json import decode_base64
from messaging.wire.limits import ACCESS_KEY
from messaging.wire.messages import ACCESS_KEY_HEADER

_ACCESS_KEY = ACCESS_KEY_HEADER.lower()


def access_key_of(call: Call) -> bytes | None:
    """The access key that a call carries, ``None`` without the header.

    Raises:
        NotAuthenticated: the header is not base64 of 16 bytes.
    """
    header = call.headers.get(_ACCESS_KEY)
    if header is None:
        return None
    try:
        key = decode_base64(header)
    except ValueError:
        raise NotAuthenticated from None
    if len(key) != ACCESS_KEY:
        raise NotAuthenticated
    return key


def check_access(
    target: Account | None, service_id: ServiceId, *, caller: Caller | None, access_key: bytes | None
) -> None:
    """Whether the caller may fetch from ``target`` or send to it (Signal-Server, ``OptionalAccess``).

    An unauthenticated caller must not learn whether the account exists, so an unknown one is answered like a wrong key.

    Raises:
        NotFound: an authenticated caller, and no such account.
        NotAuthenticated: not authenticated, and no or a wrong access key, a PNI, or no such account.
    """
    if caller is not None:
        if target is None:
            raise NotFound
        return
    expected = target.access_key if target is not None and target.access_key else secrets.token_bytes(ACCESS_KEY)
    right = hmac.compare_digest(access_key or b"", expected)
    unrestricted = target is not None and target.unrestricted_access
    if access_key is None or service_id.kind is not IdentityKind.ACI or not (right or unrestricted):
        raise NotAuthenticated
