"""People of tests who have identity keys and say what the assistant may do, without devices."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import uuid4

from messaging.client.consent import make_consent, verify_consent
from messaging.client.conversation import Statement
from messaging.wire.consent import ALL_SCOPES, ConsentScope, SignedConsent
from messaging.wire.content import ConsentUpdate
from messaging.wire.identifiers import ServiceId
from signal_protocol.public import KeyPair, generate_key_pair, sign


@dataclass(frozen=True, slots=True)
class Person:
    """An account and its identity key."""

    service_id: ServiceId
    keys: KeyPair

    @classmethod
    def new(cls) -> "Person":
        """Somebody nobody has met."""
        return cls(ServiceId(uuid4()), generate_key_pair())

    @property
    def identity_key(self) -> bytes:
        """33 bytes."""
        return self.keys.public

    def sign(self, message: bytes) -> bytes:
        """XEdDSA by the identity key."""
        return sign(self.keys.private, message)

    def signed(
        self,
        conversation: bytes,
        at: int,
        *,
        opted_in: bool = True,
        scopes: Collection[ConsentScope] = ALL_SCOPES,
        until: int | None = None,
    ) -> SignedConsent:
        """A statement about the conversation with this master key."""
        return make_consent(
            self.sign,
            conversation=conversation,
            author=self.service_id,
            timestamp=at,
            opted_in=opted_in,
            scopes=scopes if opted_in else (),
            expires_at=until,
        )

    def states(
        self,
        conversation: bytes,
        at: int,
        *,
        opted_in: bool = True,
        scopes: Collection[ConsentScope] = ALL_SCOPES,
        until: int | None = None,
    ) -> Statement:
        """The same, as somebody remembers it who has verified it."""
        signed = self.signed(conversation, at, opted_in=opted_in, scopes=scopes, until=until)
        update = ConsentUpdate(conversation, signed)
        return Statement(verify_consent(update, self.service_id, self.identity_key), signed, self.identity_key)
