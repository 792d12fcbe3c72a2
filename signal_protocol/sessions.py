"""Signal sessions of one local device, kept safe: no message key is used twice, and no step of a ratchet is half stored.

For each record there is one lock. Under it the record is read, the worker is called with no transaction open, and one
transaction writes the new record only if the old one is still there, together with what the application adds. Whatever
raises, nothing is written, and repeating the call is safe. What is sent must be stored by ``then`` and sent only after the
call returned; sending again repeats the stored ciphertext.

The records themselves are the business of a ``ProtocolStore``, the cryptography of ``SignalCrypto``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from signal_protocol.errors import (
    DuplicateMessage,
    InvalidMessage,
    NoSession,
    SessionTooLarge,
    StoreConflict,
    UntrustedCertificate,
    UntrustedIdentity,
)
from signal_protocol.operations import SignalCrypto, distribution_id_of
from signal_protocol.public import parse_prekey_message
from signal_protocol.public.errors import PublicError
from signal_protocol.storage import ProtocolStore, StoredRecord, Transaction
from signal_protocol.types import (
    Address,
    ContentHint,
    Decrypted,
    Destination,
    Encrypted,
    KyberUse,
    LocalDevice,
    MessageKind,
    PrekeyBundle,
    PrekeyRecords,
    Received,
    SafetyNumber,
    Sealed,
    SessionInfo,
    Unsealed,
)

MAX_SESSION_BYTES: Final = 2 * 1024 * 1024
_MAX_ATTEMPTS: Final = 10

Result = TypeVar("Result")
Then = Callable[[Transaction, Result], Awaitable[None]]


def milliseconds_now() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def trust_on_first_use(_service_id: str) -> bool:
    """Trust the first identity key that is seen of an account."""
    return True


@dataclass(frozen=True, slots=True)
class _Before:
    """What a call read, and what must still be so when it writes."""

    session: StoredRecord | None
    known: bytes | None

    @property
    def record(self) -> bytes | None:
        return None if self.session is None else self.session.record

    @property
    def version(self) -> int | None:
        return None if self.session is None else self.session.version


class _Changed(Exception):
    """Somebody else wrote what this call read: begin again."""


class SessionService(Generic[Transaction]):
    """Sessions, sender keys and trust of one local device. Make one of it, and only one, for each store and process.

    Args:
        trust_roots: the keys that vouch for sender certificates, 33 bytes each.
        accepts_new_identity: says of a service id whether the first identity key seen of it is trusted at once. An
            account that has to be appraised first is refused with ``UntrustedIdentity`` until ``trust_identity``.
        now: milliseconds since 1970.

    Each ``then`` runs once, inside the transaction that writes the record, after it; if it raises, nothing is written. It must
    not call this service.
    """

    def __init__(
        self,
        crypto: SignalCrypto,
        store: ProtocolStore[Transaction],
        local: LocalDevice,
        *,
        trust_roots: Sequence[bytes] = (),
        accepts_new_identity: Callable[[str], bool] = trust_on_first_use,
        now: Callable[[], int] = milliseconds_now,
    ) -> None:
        self._crypto = crypto
        self._store = store
        self._local = local
        self._trust_roots = tuple(trust_roots)
        self._accepts_new_identity = accepts_new_identity
        self._now = now
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @property
    def local(self) -> LocalDevice:
        """The device that this service speaks for."""
        return self._local

    # --- prekeys ---

    async def make_bundle(self, *, key_id: int) -> PrekeyBundle:
        """Make one prekey of each kind, store them under ``key_id``, and return them as a bundle for one peer.

        For devices that meet without a relay. A relay is given many prekeys at once, and one Kyber prekey of last resort:
        make those with ``SignalCrypto`` and store them in a transaction.

        Raises:
            InvalidArgument: ``key_id`` is not from 1 to 2^24 - 2.
        """
        identity, now = self._local.identity, self._now()
        [one_time] = await self._crypto.generate_one_time_prekeys(first_id=key_id, count=1)
        [kyber] = await self._crypto.generate_kyber_prekeys(first_id=key_id, count=1, identity=identity, now=now)
        signed = await self._crypto.generate_signed_prekey(key_id=key_id, identity=identity, now=now)
        async with self._store.transaction() as transaction:
            await transaction.save_one_time_prekey(key_id, one_time.record)
            await transaction.save_kyber_prekey(key_id, kyber.record, last_resort=False)
            await transaction.save_signed_prekey(key_id, signed.record)
        return PrekeyBundle(
            self._local.registration_id,
            self._local.address.device_id,
            identity.public_key,
            signed.public,
            kyber.public,
            one_time.public,
        )

    # --- pairwise sessions ---

    async def start_session(
        self, remote: Address, bundle: PrekeyBundle, then: Then[Transaction, None] | None = None
    ) -> None:
        """Begin a session from a prekey bundle. An earlier session is kept for messages that are still on their way.

        Raises:
            UntrustedIdentity: the bundle's identity key is not the trusted one.
            VerificationFailed: a signature in the bundle does not match.
            InvalidArgument: the bundle is for another device, or malformed.
        """

        async def attempt() -> None:
            before = await self._read(remote)
            record = await self._process_bundle(remote, bundle, before, before.record)
            if len(record) > MAX_SESSION_BYTES:  # the peer has filled the old sessions: do without them
                record = await self._process_bundle(remote, bundle, before, None)
            async with self._store.transaction() as transaction:
                await self._write(transaction, remote, before, record, bundle.identity_key)
                if then is not None:
                    await then(transaction, None)

        await self._alone(remote, attempt)

    async def encrypt(
        self, remote: Address, plaintext: bytes, then: Then[Transaction, Encrypted] | None = None
    ) -> Encrypted:
        """Encrypt one message for one device. Send it only after this returned, and store it in ``then``.

        Raises:
            NoSession: there is none, it is archived, or the peer has not answered for 30 days: start one.
            UntrustedIdentity: the session belongs to an identity key that is not the trusted one.
        """

        async def attempt() -> Encrypted:
            before = await self._read(remote)
            if before.record is None:
                raise NoSession("there is no session with this device")
            result = await self._crypto.encrypt(
                local=self._local,
                remote=remote,
                session=before.record,
                known=before.known,
                plaintext=plaintext,
                now=self._now(),
                accept_new_identity=self._accepts_new_identity(remote.service_id),
            )
            async with self._store.transaction() as transaction:
                await self._write(transaction, remote, before, result.session, before.known)
                if then is not None:
                    await then(transaction, result)
            return result

        return await self._alone(remote, attempt)

    async def decrypt(
        self,
        remote: Address,
        kind: MessageKind,
        ciphertext: bytes,
        then: Then[Transaction, Decrypted] | None = None,
    ) -> Decrypted:
        """Decrypt one message from one device. Store the plaintext in ``then``; acknowledge after this returned.

        Raises:
            DuplicateMessage: it was decrypted before.
            InvalidMessage: it is malformed, altered, or for somebody else.
            NoSession: there is no session for it.
            KeyNotFound: it needs a prekey that is not stored.
            UntrustedIdentity: it comes from an identity key that is not the trusted one.
            SessionTooLarge: the peer made the session record grow beyond 2 MiB.
        """
        return await self._decrypt(remote, kind, ciphertext, None, then)

    async def archive(self, remote: Address) -> None:
        """End the current session with a device: it decrypts late messages and encrypts no more."""

        async def attempt() -> None:
            before = await self._read(remote)
            if before.record is None:
                return
            record = await self._crypto.archive_session(before.record)
            async with self._store.transaction() as transaction:
                await self._write(transaction, remote, before, record, before.known)

        await self._alone(remote, attempt)

    async def session_info(self, remote: Address) -> SessionInfo | None:
        """Return what is known of the session with a device; ``None`` if there never was one."""
        before = await self._read(remote)
        return None if before.record is None else await self._crypto.session_info(before.record, now=self._now())

    async def has_session(self, remote: Address) -> bool:
        """Say whether :meth:`encrypt` has a session to use."""
        info = await self.session_info(remote)
        return info is not None and info.usable

    # --- sealed sender ---

    async def encrypt_sealed(
        self,
        remote: Address,
        plaintext: bytes,
        certificate: bytes,
        then: Then[Transaction, Sealed] | None = None,
        *,
        content_hint: ContentHint = ContentHint.DEFAULT,
        group_id: bytes | None = None,
    ) -> Sealed:
        """As :meth:`encrypt`, and hide the sender, whom ``certificate`` names to the recipient alone.

        Raises:
            As :meth:`encrypt`, and ``InvalidArgument`` for a malformed certificate.
        """

        async def attempt() -> Sealed:
            before = await self._read(remote)
            if before.record is None:
                raise NoSession("there is no session with this device")
            result = await self._crypto.encrypt_sealed(
                local=self._local,
                remote=remote,
                session=before.record,
                known=before.known,
                plaintext=plaintext,
                certificate=certificate,
                now=self._now(),
                content_hint=content_hint,
                group_id=group_id,
                accept_new_identity=self._accepts_new_identity(remote.service_id),
            )
            async with self._store.transaction() as transaction:
                await self._write(transaction, remote, before, result.session, before.known)
                if then is not None:
                    await then(transaction, result)
            return result

        return await self._alone(remote, attempt)

    async def decrypt_sealed(
        self, message: bytes, then: Then[Transaction, Received] | None = None, *, at: int | None = None
    ) -> Received:
        """Open a sealed message, check who vouches for its sender, and decrypt it: pairwise or from a group.

        Args:
            at: when the relay took the message, which is when its certificate must have been valid; now, if not given.

        Raises:
            UntrustedCertificate: the certificate was not valid then, or its key is not the key of the message's sender.
            SelfSend: this device sent it.
            InvalidMessage: as in :meth:`decrypt`, and for content that is not encrypted.
            As :meth:`decrypt` and :meth:`group_decrypt` otherwise.
        """
        valid_at = self._now() if at is None else at
        unsealed = await self._crypto.unseal(message, local=self._local, trust_roots=self._trust_roots, now=valid_at)

        def received(plaintext: bytes) -> Received:
            return Received(unsealed.sender, unsealed.kind, unsealed.content_hint, unsealed.group_id, plaintext)

        async def then_pairwise(transaction: Transaction, result: Decrypted) -> None:
            if then is not None:
                await then(transaction, received(result.plaintext))

        async def then_group(transaction: Transaction, plaintext: bytes) -> None:
            if then is not None:
                await then(transaction, received(plaintext))

        match unsealed.kind:
            case MessageKind.SENDER_KEY:
                return received(await self._group_decrypt(unsealed.sender, unsealed.ciphertext, unsealed, then_group))
            case MessageKind.PREKEY | MessageKind.WHISPER:
                result = await self._decrypt(
                    unsealed.sender, unsealed.kind, unsealed.ciphertext, unsealed, then_pairwise
                )
                return received(result.plaintext)
            case _:
                raise InvalidMessage("the content of a sealed message is encrypted")

    # --- trust ---

    async def trusted_identity(self, service_id: str) -> bytes | None:
        """Return the identity key that is trusted for an account."""
        async with self._store.transaction() as transaction:
            return await transaction.load_identity(service_id)

    async def trust_identity(self, service_id: str, identity_key: bytes) -> None:
        """Trust this identity key of an account and no other. Sessions made with another key are archived."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                return await self._try_to_trust(service_id, identity_key)
            except _Changed:
                continue
        raise StoreConflict("records kept changing under a call")

    async def safety_number(self, service_id: str) -> SafetyNumber:
        """Return the number to compare with the owner of an account.

        Raises:
            NoSession: no identity key is known of it yet.
        """
        known = await self.trusted_identity(service_id)
        if known is None:
            raise NoSession("no identity key of this account is known")
        return await self._crypto.safety_number(
            local=self._local.address.service_id,
            local_key=self._local.identity.public_key,
            remote=service_id,
            remote_key=known,
        )

    # --- groups ---

    async def distribute_sender_key(
        self, distribution_id: UUID, then: Then[Transaction, bytes] | None = None, *, rotate: bool = False
    ) -> bytes:
        """Return the message that lets a member decrypt what we send to a group from now on; made if there is none.

        Send it inside pairwise sessions only. ``rotate`` makes a new key first, which members that do not get it cannot
        follow.
        """

        async def attempt() -> bytes:
            before = await self._read_sender_key(self._local.address, distribution_id)
            made = await self._crypto.create_distribution(
                sender=self._local.address,
                distribution_id=distribution_id,
                sender_key=None if before is None or rotate else before.record,
            )
            async with self._store.transaction() as transaction:
                await _write_sender_key(transaction, self._local.address, distribution_id, before, made.sender_key)
                if then is not None:
                    await then(transaction, made.message)
            return made.message

        return await self._alone((self._local.address, distribution_id), attempt)

    async def process_distribution(
        self, sender: Address, message: bytes, then: Then[Transaction, UUID] | None = None
    ) -> UUID:
        """Take over a sender key, and return its distribution id.

        The message carries no proof of its sender. Call this only with what :meth:`decrypt` or :meth:`decrypt_sealed`
        returned for a pairwise message of ``sender``.

        Raises:
            InvalidMessage: it is malformed.
        """
        distribution_id = distribution_id_of(message)

        async def attempt() -> UUID:
            before = await self._read_sender_key(sender, distribution_id)
            record = await self._crypto.process_distribution(
                sender=sender,
                distribution_id=distribution_id,
                sender_key=None if before is None else before.record,
                message=message,
            )
            async with self._store.transaction() as transaction:
                await _write_sender_key(transaction, sender, distribution_id, before, record)
                if then is not None:
                    await then(transaction, distribution_id)
            return distribution_id

        return await self._alone((sender, distribution_id), attempt)

    async def group_encrypt(
        self, distribution_id: UUID, plaintext: bytes, then: Then[Transaction, bytes] | None = None
    ) -> bytes:
        """Encrypt once for all members that have our sender key.

        Raises:
            NoSession: our sender key has never been distributed.
        """

        async def attempt() -> bytes:
            before = await self._own_sender_key(distribution_id)
            result = await self._crypto.group_encrypt(
                sender=self._local.address,
                distribution_id=distribution_id,
                sender_key=before.record,
                plaintext=plaintext,
            )
            async with self._store.transaction() as transaction:
                await _write_sender_key(transaction, self._local.address, distribution_id, before, result.sender_key)
                if then is not None:
                    await then(transaction, result.ciphertext)
            return result.ciphertext

        return await self._alone((self._local.address, distribution_id), attempt)

    async def group_encrypt_sealed(
        self,
        distribution_id: UUID,
        recipients: Sequence[Address],
        plaintext: bytes,
        certificate: bytes,
        then: Then[Transaction, bytes] | None = None,
        *,
        content_hint: ContentHint = ContentHint.DEFAULT,
        group_id: bytes | None = None,
        excluded: Sequence[str] = (),
    ) -> bytes:
        """Encrypt once for a group, seal it for each of ``recipients``, and return what a relay splits.

        Raises:
            NoSession: our sender key has never been distributed, or a recipient has no usable session.
            InvalidArgument: there are no recipients, or the certificate is malformed.
        """

        async def attempt() -> bytes:
            before = await self._own_sender_key(distribution_id)
            result = await self._crypto.group_encrypt_sealed(
                local=self._local,
                destinations=[await self._destination(recipient) for recipient in recipients],
                distribution_id=distribution_id,
                sender_key=before.record,
                plaintext=plaintext,
                certificate=certificate,
                content_hint=content_hint,
                group_id=group_id,
                excluded=excluded,
            )
            async with self._store.transaction() as transaction:
                await _write_sender_key(transaction, self._local.address, distribution_id, before, result.sender_key)
                if then is not None:
                    await then(transaction, result.ciphertext)
            return result.ciphertext

        return await self._alone((self._local.address, distribution_id), attempt)

    async def group_decrypt(
        self, sender: Address, ciphertext: bytes, then: Then[Transaction, bytes] | None = None
    ) -> bytes:
        """Decrypt a group message.

        Raises:
            DuplicateMessage: it was decrypted before.
            InvalidMessage: it is malformed or altered.
            VerificationFailed: its signature does not match.
            NoSession: we do not have this sender key.
        """
        return await self._group_decrypt(sender, ciphertext, None, then)

    # --- the rules ---

    async def _alone(self, key: Hashable, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``attempt`` under the lock of ``key``, again while others change what it read."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            for _ in range(_MAX_ATTEMPTS):
                try:
                    return await attempt()
                except _Changed:
                    continue
        raise StoreConflict("records kept changing under a call")

    async def _read(self, remote: Address) -> _Before:
        async with self._store.transaction() as transaction:
            return _Before(await transaction.load_session(remote), await transaction.load_identity(remote.service_id))

    async def _write(
        self, transaction: Transaction, remote: Address, before: _Before, record: bytes, identity_key: bytes | None
    ) -> None:
        if await transaction.load_identity(remote.service_id) != before.known:
            raise _Changed
        if not await transaction.save_session(remote, record, expected=before.version):
            raise _Changed
        if identity_key is not None and identity_key != before.known:
            await transaction.save_identity(remote.service_id, identity_key)

    async def _try_to_trust(self, service_id: str, identity_key: bytes) -> None:
        async with self._store.transaction() as transaction:
            known = await transaction.load_identity(service_id)
            sessions = await _sessions_of(transaction, service_id)
        if known == identity_key:
            return
        archived = {remote: await self._crypto.archive_session(stored.record) for remote, stored in sessions.items()}
        async with self._store.transaction() as transaction:
            if await transaction.load_identity(service_id) != known:
                raise _Changed
            if await _sessions_of(transaction, service_id) != sessions:
                raise _Changed
            for remote, record in archived.items():
                await transaction.save_session(remote, record, expected=sessions[remote].version)
            await transaction.save_identity(service_id, identity_key)

    async def _process_bundle(
        self, remote: Address, bundle: PrekeyBundle, before: _Before, session: bytes | None
    ) -> bytes:
        return await self._crypto.process_bundle(
            local=self._local,
            remote=remote,
            session=session,
            known=before.known,
            bundle=bundle,
            now=self._now(),
            accept_new_identity=self._accepts_new_identity(remote.service_id),
        )

    async def _decrypt(
        self,
        remote: Address,
        kind: MessageKind,
        ciphertext: bytes,
        sealed: Unsealed | None,
        then: Then[Transaction, Decrypted] | None,
    ) -> Decrypted:
        async def attempt() -> Decrypted:
            before = await self._read(remote)
            keys = await self._prekeys_for(ciphertext) if kind is MessageKind.PREKEY else PrekeyRecords()
            result = await self._crypto.decrypt(
                local=self._local,
                remote=remote,
                session=before.record,
                known=before.known,
                kind=kind,
                ciphertext=ciphertext,
                keys=keys,
                accept_new_identity=self._accepts_new_identity(remote.service_id),
            )
            if sealed is not None and sealed.identity_key != result.identity_key:
                raise UntrustedCertificate("a sender certificate is for the key that the message comes from")
            if len(result.session) > MAX_SESSION_BYTES:
                await self._archive_too_large(remote, before)
                raise SessionTooLarge("a session record has at most 2 MiB")
            async with self._store.transaction() as transaction:
                await self._write(transaction, remote, before, result.session, result.identity_key)
                await _use_up(transaction, result, keys)
                if then is not None:
                    await then(transaction, result)
            return result

        return await self._alone(remote, attempt)

    async def _prekeys_for(self, ciphertext: bytes) -> PrekeyRecords:
        try:
            message = parse_prekey_message(ciphertext)
        except PublicError:
            raise InvalidMessage("the message is malformed") from None
        async with self._store.transaction() as transaction:
            one_time = message.one_time_prekey_id
            stored_kyber = await transaction.load_kyber_prekey(message.kyber_prekey_id)
            return PrekeyRecords(
                one_time=None if one_time is None else await transaction.load_one_time_prekey(one_time),
                signed=await transaction.load_signed_prekey(message.signed_prekey_id),
                kyber=None if stored_kyber is None else stored_kyber.record,
                kyber_last_resort=stored_kyber is not None and stored_kyber.last_resort,
            )

    async def _archive_too_large(self, remote: Address, before: _Before) -> None:
        if before.record is None:
            return
        record = await self._crypto.archive_session(before.record)
        async with self._store.transaction() as transaction:
            await self._write(transaction, remote, before, record, before.known)

    async def _destination(self, recipient: Address) -> Destination:
        before = await self._read(recipient)
        if before.record is None or before.known is None:
            raise NoSession("there is no session with a recipient")
        return Destination(recipient, before.known, before.record)

    async def _read_sender_key(self, sender: Address, distribution_id: UUID) -> StoredRecord | None:
        async with self._store.transaction() as transaction:
            return await transaction.load_sender_key(sender, distribution_id)

    async def _own_sender_key(self, distribution_id: UUID) -> StoredRecord:
        stored = await self._read_sender_key(self._local.address, distribution_id)
        if stored is None:
            raise NoSession("our sender key for this group has not been distributed")
        return stored

    async def _group_decrypt(
        self, sender: Address, ciphertext: bytes, sealed: Unsealed | None, then: Then[Transaction, bytes] | None
    ) -> bytes:
        distribution_id = distribution_id_of(ciphertext)

        async def attempt() -> bytes:
            if sealed is not None and await self.trusted_identity(sender.service_id) != sealed.identity_key:
                raise UntrustedIdentity(sender, sealed.identity_key)
            before = await self._read_sender_key(sender, distribution_id)
            if before is None:
                raise NoSession("we do not have this sender key")
            result = await self._crypto.group_decrypt(
                sender=sender, distribution_id=distribution_id, sender_key=before.record, ciphertext=ciphertext
            )
            async with self._store.transaction() as transaction:
                await _write_sender_key(transaction, sender, distribution_id, before, result.sender_key)
                if then is not None:
                    await then(transaction, result.plaintext)
            return result.plaintext

        return await self._alone((sender, distribution_id), attempt)


async def _sessions_of(transaction: Transaction, service_id: str) -> dict[Address, StoredRecord]:
    found = {remote: await transaction.load_session(remote) for remote in await transaction.session_devices(service_id)}
    return {remote: stored for remote, stored in found.items() if stored is not None}


async def _write_sender_key(
    transaction: Transaction, sender: Address, distribution_id: UUID, before: StoredRecord | None, record: bytes
) -> None:
    expected = None if before is None else before.version
    if not await transaction.save_sender_key(sender, distribution_id, record, expected=expected):
        raise _Changed


async def _use_up(transaction: Transaction, result: Decrypted, keys: PrekeyRecords) -> None:
    """Delete the one-time prekeys that a first message used, so that it cannot be replayed."""
    one_time, kyber = result.used_one_time_prekey, result.used_kyber_prekey
    if one_time is not None and not await transaction.delete_one_time_prekey(one_time):
        raise _Changed
    if kyber is not None:
        await _use_up_kyber(transaction, kyber, last_resort=keys.kyber_last_resort)


async def _use_up_kyber(transaction: Transaction, use: KyberUse, *, last_resort: bool) -> None:
    if not last_resort:
        if not await transaction.delete_kyber_prekey(use.kyber_prekey_id):
            raise _Changed
    elif not await transaction.mark_kyber_prekey_used(use):
        raise DuplicateMessage("the message began a session before")
