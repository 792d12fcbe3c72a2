"""Sender certificates: the relay vouches for a sender's identity key, so that receivers of sealed messages can check it.

The chain is: trust root, server certificate, sender certificate. Clients learn the root from ``/v1/server-info``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from messaging.relay.accounts.tables import find_account_by_id
from messaging.relay.database import Database
from messaging.relay.errors import NotAuthenticated
from messaging.relay.http import Caller
from messaging.relay.server_secret import ServerSecret
from messaging.wire.messages import DeliveryCertificate
from signal_protocol.public.certificates import issue_sender_certificate, issue_server_certificate
from signal_protocol.public.keys import public_key_of

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True)
class CertificateService:
    """Issues sender certificates under server certificate ``key_id``. ``now`` gives milliseconds since 1970.

    Another ``key_id`` is another key: the one before signs nothing more, and what it signed is good for a day at most.
    """

    database: Database
    secret: ServerSecret
    now: Callable[[], int]
    key_id: int = 1

    @cached_property
    def trust_root(self) -> bytes:
        """The public root key, serialized: 33 bytes."""
        return public_key_of(self.secret.trust_root_private)

    @cached_property
    def _server_certificate(self) -> bytes:
        return issue_server_certificate(
            self.secret.trust_root_private,
            key_id=self.key_id,
            key=public_key_of(self.secret.certificate_key(self.key_id)),
        )

    async def issue(self, caller: Caller) -> DeliveryCertificate:
        """A certificate for the calling device, without a number, valid for a day.

        Raises:
            NotAuthenticated: the account is gone.
        """
        async with self.database.read() as db:
            account = await find_account_by_id(db, caller.account_id)
        if account is None:
            raise NotAuthenticated
        certificate = issue_sender_certificate(
            self._server_certificate,
            self.secret.certificate_key(self.key_id),
            sender=str(account.aci),
            device_id=caller.device_id,
            identity_key=account.aci_identity_key,
            expires=self.now() + LIFETIME // timedelta(milliseconds=1),
        )
        return DeliveryCertificate(certificate=certificate)
