"""Statements of consent: made by the author's device, checked by everybody whom they are told to."""

from collections.abc import Callable, Collection

from messaging.wire.consent import (
    ALL_SCOPES,
    CONSENT_CONTEXT,
    Consent,
    ConsentScope,
    SignedConsent,
    conversation_id,
    read_consent,
)
from messaging.wire.content import ConsentUpdate
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from signal_protocol.public import verify_signature
from signal_protocol.public.errors import PublicError


class ConsentRefused(Exception):
    """A statement that is not its sender's: malformed, about another conversation, or signed by somebody else."""


def make_consent(
    sign: Callable[[bytes], bytes],
    *,
    conversation: bytes,
    author: ServiceId,
    timestamp: int,
    opted_in: bool,
    scopes: Collection[ConsentScope] = ALL_SCOPES,
    expires_at: int | None = None,
) -> SignedConsent:
    """A statement of ``author``, signed. ``sign`` makes XEdDSA signatures by the account's identity key.

    Args:
        conversation: its master key.
        timestamp: milliseconds since 1970; the statement counts for messages from then on.
        expires_at: milliseconds since 1970, or ``None``: until withdrawn.

    Raises:
        ValueError: it would allow nothing: a yes for no scope, or one that has run out when it begins.
    """
    if opted_in and not scopes:
        raise ValueError("consent is for one scope at least")
    if expires_at is not None and expires_at <= timestamp:
        raise ValueError("consent ends after it begins")
    statement = Consent(
        conversation_id(conversation), author, timestamp, opted_in, frozenset(scopes), expires_at
    ).encode()
    return SignedConsent(statement, sign(CONSENT_CONTEXT + statement))


def verify_consent(update: ConsentUpdate, author: ServiceId, identity_key: bytes) -> Consent:
    """Read a statement and check that ``author``, whose identity key is ``identity_key``, made it about this conversation.

    Raises:
        ConsentRefused: it is not.
    """
    try:
        consent = read_consent(update.consent)
        verify_signature(identity_key, CONSENT_CONTEXT + update.consent.statement, update.consent.signature)
    except (MalformedField, PublicError):
        raise ConsentRefused from None
    if consent.author != author or consent.conversation_id != conversation_id(update.conversation):
        raise ConsentRefused
    return consent
