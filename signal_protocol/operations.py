"""libsignal's operations as typed functions: records in, changed records out, nothing kept.

An operation has no effect but its result. The caller stores it, or does not; who wants that done safely uses
``sessions``. Arguments are checked here as far as libsignal does not: it takes an empty record for a valid one, a bundle
for one device as another's, and a registration id that fails only later.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from signal_protocol import errors
from signal_protocol.errors import (
    CorruptRecord,
    InvalidArgument,
    InvalidMessage,
    ProtocolError,
    UntrustedCertificate,
    UntrustedIdentity,
)
from signal_protocol.types import (
    MAX_KEY_ID,
    Address,
    ContentHint,
    Decrypted,
    DecryptionError,
    Destination,
    Distribution,
    Encrypted,
    GroupDecrypted,
    GroupEncrypted,
    Identity,
    KyberPrekey,
    KyberUse,
    LocalDevice,
    MessageKind,
    OneTimePrekey,
    PrekeyBundle,
    PrekeyRecords,
    PublicPrekey,
    SafetyNumber,
    Sealed,
    SessionInfo,
    SignedPrekey,
    SignedPublicPrekey,
    Unsealed,
    check_service_id,
    service_id_bytes,
)
from signal_protocol.worker_process import CallRefused, QuarantinedCall, Worker, WorkerConfig, start_worker

MAX_KEYS_AT_ONCE: Final = 1000
_KYBER_KEYS_A_CALL: Final = 10  # about a millisecond of the worker's time: other calls get their turn between
_EC_KEYS_A_CALL: Final = 100

_DISTRIBUTION_ID_FIELD: Final = b"\x0a\x10"  # field 1, bytes, 16 of them

_NO_KEYS: Final = PrekeyRecords()

_RULES: Final = {
    "InvalidMessage": "the message is malformed, altered, or not for this device",
    "DuplicateMessage": "the message was decrypted before",
    "NoSession": "there is no usable session or sender key",
    "KeyNotFound": "the message needs a prekey that is not stored",
    "VerificationFailed": "a signature does not match its key",
    "UntrustedCertificate": "a sender certificate is valid, current, and vouched for by a trust root",
    "SelfSend": "the message comes from this device itself",
    "InvalidArgument": "an argument is outside what the protocol allows",
    "TooLarge": "a reply fits a frame of 16 MiB",
    "CorruptRecord": "a stored record cannot be read",
}


class SignalCrypto:
    """The official libsignal, in a worker process. Use: ``async with SignalCrypto.start() as crypto``.

    Every method may raise a ``WorkerError`` (nothing happened) besides what it documents.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @classmethod
    @asynccontextmanager
    async def start(cls, config: WorkerConfig | None = None) -> AsyncIterator["SignalCrypto"]:
        """Run a worker for the time of a block.

        Raises:
            WorkerUnavailable: Node or the worker's packages are missing; the message says what to do.
        """
        async with start_worker(config or WorkerConfig()) as worker:
            yield cls(worker)

    @property
    def healthy(self) -> bool:
        """Whether calls are taken; false after five failures within a minute, until the minute is over."""
        return self._worker.healthy

    @property
    def worker_process_id(self) -> int | None:
        """Of the worker; ``None`` between two."""
        return self._worker.process_id

    @property
    def quarantine(self) -> list[QuarantinedCall]:
        """The latest calls that ended the worker twice."""
        return list(self._worker.quarantine)

    async def ping(self, data: bytes) -> bytes:
        """Return ``data`` from the worker."""
        [answer] = await self._call("ping", data)
        return _bytes(answer)

    # --- keys ---

    async def generate_identity(self) -> Identity:
        """Return a fresh identity key pair."""
        public_key, private_key = await self._call("generate_identity")
        return Identity(public_key, private_key)

    async def generate_one_time_prekeys(self, *, first_id: int, count: int) -> list[OneTimePrekey]:
        """Return ``count`` prekeys with the ids from ``first_id`` on.

        Raises:
            InvalidArgument: an id is not from 1 to 2^24 - 2, or more than 1,000 keys are asked for.
        """
        _check_key_ids(first_id, count)
        keys: list[OneTimePrekey] = []
        for first, size in _chunks(first_id, count, _EC_KEYS_A_CALL):
            made = await self._call("generate_one_time_prekeys", first, size)
            keys += [OneTimePrekey(PublicPrekey(key_id, public), record) for key_id, public, record in made]
        return keys

    async def generate_signed_prekey(self, *, key_id: int, identity: Identity, now: int) -> SignedPrekey:
        """Return a prekey signed by ``identity``; ``now`` in milliseconds since 1970.

        Raises:
            InvalidArgument: the id is not from 1 to 2^24 - 2.
        """
        _check_key_ids(key_id, 1)
        public, signature, record = await self._call("generate_signed_prekey", key_id, now, identity.private_key)
        return SignedPrekey(SignedPublicPrekey(key_id, public, signature), now, record)

    async def generate_kyber_prekeys(
        self, *, first_id: int, count: int, identity: Identity, now: int
    ) -> list[KyberPrekey]:
        """Return ``count`` Kyber prekeys signed by ``identity``. A last-resort key is made with ``count=1``.

        Raises:
            InvalidArgument: an id is not from 1 to 2^24 - 2, or more than 1,000 keys are asked for.
        """
        _check_key_ids(first_id, count)
        keys: list[KyberPrekey] = []
        for first, size in _chunks(first_id, count, _KYBER_KEYS_A_CALL):
            made = await self._call("generate_kyber_prekeys", first, size, now, identity.private_key)
            keys += [
                KyberPrekey(SignedPublicPrekey(key_id, public, signature), now, record)
                for key_id, public, signature, record in made
            ]
        return keys

    # --- sessions ---

    async def process_bundle(
        self,
        *,
        local: LocalDevice,
        remote: Address,
        session: bytes | None,
        known: bytes | None,
        bundle: PrekeyBundle,
        now: int,
        accept_new_identity: bool = True,
    ) -> bytes:
        """Begin a session with ``remote`` and return its record. An earlier session is kept inside for late messages.

        Args:
            session: the present record, if there is one.
            known: the identity key that is trusted for the peer, if there is one.
            accept_new_identity: whether a peer without ``known`` is trusted.

        Raises:
            UntrustedIdentity: the bundle has another identity key.
            VerificationFailed: a signature in the bundle does not match.
            InvalidArgument: the bundle is for another device, or a key in it is malformed.
            CorruptRecord: ``session`` or ``known`` cannot be read.

        Source: PQXDH, section 3.3.
        """
        if bundle.device_id != remote.device_id:
            raise InvalidArgument("a bundle is for the device that it is used for")
        [record] = await self._call_for(
            remote,
            "process_bundle",
            _local(local),
            _remote(remote),
            _record(session),
            _record(known),
            accept_new_identity,
            _bundle(bundle),
            now,
        )
        return _bytes(record)

    async def encrypt(
        self,
        *,
        local: LocalDevice,
        remote: Address,
        session: bytes,
        known: bytes | None,
        plaintext: bytes,
        now: int,
        accept_new_identity: bool = True,
    ) -> Encrypted:
        """Encrypt one message and return it with the session record after it.

        Two calls with the same ``session`` use the same message key. Never send both results.

        Raises:
            NoSession: the session is archived, or the peer has not answered for 30 days.
            UntrustedIdentity: the session belongs to another identity key.
            CorruptRecord: a record cannot be read.
        """
        kind, ciphertext, registration_id, record = await self._call_for(
            remote,
            "encrypt",
            _local(local),
            _remote(remote),
            _record(session),
            _record(known),
            accept_new_identity,
            plaintext,
            now,
        )
        return Encrypted(MessageKind(kind), ciphertext, registration_id, record)

    async def decrypt(
        self,
        *,
        local: LocalDevice,
        remote: Address,
        session: bytes | None,
        known: bytes | None,
        kind: MessageKind,
        ciphertext: bytes,
        keys: PrekeyRecords = _NO_KEYS,
        accept_new_identity: bool = True,
    ) -> Decrypted:
        """Decrypt one message, and return what has to be written with it.

        Args:
            kind: ``PREKEY`` or ``WHISPER``.
            keys: for ``PREKEY``, our records of the prekeys that ``public.parse_prekey_message`` says it names.

        Raises:
            DuplicateMessage: it was decrypted before.
            InvalidMessage: it is malformed, altered, or for somebody else.
            KeyNotFound: it needs a prekey that ``keys`` lacks.
            NoSession: a ``WHISPER`` without a session.
            UntrustedIdentity: it comes from another identity key.
            CorruptRecord: a record cannot be read.
        """
        if kind not in (MessageKind.PREKEY, MessageKind.WHISPER):
            raise InvalidArgument("only pairwise messages are decrypted in a session")
        plaintext, record, identity_key, one_time, kyber = await self._call_for(
            remote,
            "decrypt",
            _local(local),
            _remote(remote),
            _record(session),
            _record(known),
            accept_new_identity,
            int(kind),
            ciphertext,
            _record(keys.one_time),
            _record(keys.signed),
            _record(keys.kyber),
        )
        return Decrypted(plaintext, record, identity_key, one_time, None if kyber is None else KyberUse(*kyber))

    async def session_info(self, session: bytes, *, now: int) -> SessionInfo:
        """Say whether a session can encrypt at ``now``, and the registration id of the peer's device.

        Raises:
            CorruptRecord: the record cannot be read.
        """
        usable, registration_id = await self._call("session_info", _record(session), now)
        return SessionInfo(usable, registration_id)

    async def archive_session(self, session: bytes) -> bytes:
        """Return the record without a current session: it still decrypts late messages and encrypts no more.

        Raises:
            CorruptRecord: the record cannot be read.
        """
        [record] = await self._call("archive_session", _record(session))
        return _bytes(record)

    # --- groups ---

    async def create_distribution(
        self, *, sender: Address, distribution_id: UUID, sender_key: bytes | None
    ) -> Distribution:
        """Return the message that gives our sender key to a member; without ``sender_key``, a new key is made.

        Raises:
            CorruptRecord: the record cannot be read.
        """
        message, record = await self._call(
            "create_distribution", _remote(sender), str(distribution_id), _record(sender_key)
        )
        return Distribution(message, record)

    async def process_distribution(
        self, *, sender: Address, distribution_id: UUID, sender_key: bytes | None, message: bytes
    ) -> bytes:
        """Take over a sender key and return our record of it. The message is not signed: it counts only inside a session.

        Args:
            distribution_id: from :func:`distribution_id_of`.
            sender_key: our present record for this sender and id, if there is one.

        Raises:
            InvalidMessage: it is malformed, or for another distribution id.
            CorruptRecord: the record cannot be read.
        """
        [record] = await self._call(
            "process_distribution", _remote(sender), str(distribution_id), _record(sender_key), message
        )
        return _bytes(record)

    async def group_encrypt(
        self, *, sender: Address, distribution_id: UUID, sender_key: bytes, plaintext: bytes
    ) -> GroupEncrypted:
        """Encrypt once for all who have the sender key.

        Raises:
            CorruptRecord: the record cannot be read.
        """
        ciphertext, record = await self._call(
            "group_encrypt", _remote(sender), str(distribution_id), _record(sender_key), plaintext
        )
        return GroupEncrypted(ciphertext, record)

    async def group_decrypt(
        self, *, sender: Address, distribution_id: UUID, sender_key: bytes, ciphertext: bytes
    ) -> GroupDecrypted:
        """Decrypt a group message; ``distribution_id`` comes from :func:`distribution_id_of`.

        Raises:
            DuplicateMessage: it was decrypted before.
            InvalidMessage: it is malformed or altered, or for another distribution id.
            VerificationFailed: its signature does not match.
            NoSession: the record holds no key for it.
            CorruptRecord: the record cannot be read.
        """
        plaintext, record = await self._call(
            "group_decrypt", _remote(sender), str(distribution_id), _record(sender_key), ciphertext
        )
        return GroupDecrypted(plaintext, record)

    # --- sealed sender ---

    async def encrypt_sealed(
        self,
        *,
        local: LocalDevice,
        remote: Address,
        session: bytes,
        known: bytes | None,
        plaintext: bytes,
        certificate: bytes,
        now: int,
        content_hint: ContentHint = ContentHint.DEFAULT,
        group_id: bytes | None = None,
        accept_new_identity: bool = True,
    ) -> Sealed:
        """Encrypt one message and hide its sender from whoever forwards it (sealed sender, first version).

        Args:
            certificate: our sender certificate, which only the recipient will see.

        Raises:
            As :meth:`encrypt`, and ``InvalidArgument`` for a malformed certificate.
        """
        message, registration_id, record = await self._call_for(
            remote,
            "encrypt_sealed",
            _local(local),
            _remote(remote),
            _record(session),
            _record(known),
            accept_new_identity,
            plaintext,
            certificate,
            int(content_hint),
            group_id,
            now,
        )
        return Sealed(message, registration_id, record)

    async def group_encrypt_sealed(
        self,
        *,
        local: LocalDevice,
        destinations: Sequence[Destination],
        distribution_id: UUID,
        sender_key: bytes,
        plaintext: bytes,
        certificate: bytes,
        content_hint: ContentHint = ContentHint.DEFAULT,
        group_id: bytes | None = None,
        excluded: Sequence[str] = (),
    ) -> GroupEncrypted:
        """Encrypt once for a group and seal for one or many devices (sealed sender, second version).

        The result is what a relay splits (``public``). It takes the worker about 0.3 ms a device.

        Args:
            destinations: at least one; all devices of an account have one identity key.
            excluded: service ids that must be left out, said so that nobody takes it for an oversight.

        Raises:
            NoSession: a session in ``destinations`` is archived.
            InvalidArgument: there are no destinations, or the certificate is malformed.
            CorruptRecord: a record cannot be read.
        """
        if not destinations:
            raise InvalidArgument("a sealed message has a recipient")
        for service_id in excluded:
            check_service_id(service_id)
        message, record = await self._call_for(
            destinations[0].address,
            "group_encrypt_sealed",
            _local(local),
            [[_remote(to.address), _record(to.identity_key), _record(to.session)] for to in destinations],
            list(excluded),
            str(distribution_id),
            _record(sender_key),
            plaintext,
            certificate,
            int(content_hint),
            group_id,
        )
        return GroupEncrypted(message, record)

    async def unseal(self, message: bytes, *, local: LocalDevice, trust_roots: Sequence[bytes], now: int) -> Unsealed:
        """Open a sealed message of either version and check who vouches for its sender. The content stays encrypted.

        Args:
            trust_roots: public keys; one of them has to have signed the server certificate inside.

        Raises:
            InvalidMessage: it is malformed, altered, or for another identity key.
            UntrustedCertificate: the certificate is not valid at ``now``, or no root vouches for it.
            SelfSend: this device sent it.
        """
        name, device, identity_key, kind, hint, group_id, ciphertext = await self._call(
            "unseal", _local(local), message, list(trust_roots), now
        )
        try:
            sender = Address(name, device)
        except InvalidArgument:
            raise UntrustedCertificate(_RULES["UntrustedCertificate"]) from None
        return Unsealed(sender, identity_key, MessageKind(kind), _hint(hint), group_id, ciphertext)

    # --- people ---

    async def safety_number(self, *, local: str, local_key: bytes, remote: str, remote_key: bytes) -> SafetyNumber:
        """Return the safety number of two accounts, given by service id and identity key; equal on both sides.

        Raises:
            InvalidArgument: a service id or a key is malformed.
        """
        check_service_id(local)
        check_service_id(remote)
        digits, scannable = await self._call(
            "safety_number", service_id_bytes(local), local_key, service_id_bytes(remote), remote_key
        )
        return SafetyNumber(digits, scannable)

    async def compare_safety_numbers(self, ours: bytes, theirs: bytes) -> bool:
        """Compare our scannable safety number with the one that was scanned.

        Raises:
            InvalidMessage: what was scanned is no safety number, or one of another version.
        """
        [equal] = await self._call("compare_safety_numbers", ours, theirs)
        return bool(equal)

    async def make_decryption_error(
        self, *, kind: MessageKind, ciphertext: bytes, sent_at: int, sender_device_id: int
    ) -> bytes:
        """Return the unencrypted content (``PLAINTEXT``) that tells a sender that their message cannot be decrypted.

        Raises:
            InvalidArgument: ``ciphertext`` is no message of that kind.
        """
        [content] = await self._call("make_decryption_error", int(kind), ciphertext, sent_at, sender_device_id)
        return _bytes(content)

    async def read_decryption_error(self, content: bytes) -> DecryptionError:
        """Read what :meth:`make_decryption_error` made. It is not authenticated: anybody can say it.

        Raises:
            InvalidMessage: it is something else.
        """
        sent_at, device_id, ratchet_key = await self._call("read_decryption_error", content)
        return DecryptionError(sent_at, device_id, ratchet_key)

    # --- calls ---

    async def _call(self, operation: str, *arguments: object) -> list[Any]:
        try:
            return await self._worker.call(operation, *arguments)
        except CallRefused as refused:
            raise _error(refused) from None

    async def _call_for(self, remote: Address, operation: str, *arguments: object) -> list[Any]:
        """As ``_call``, for an operation that may find the identity key of ``remote`` untrusted."""
        try:
            return await self._worker.call(operation, *arguments)
        except CallRefused as refused:
            match refused.name, refused.detail:
                case "UntrustedIdentity", [bytes(identity_key)]:
                    raise UntrustedIdentity(remote, identity_key) from None
            raise _error(refused) from None


def distribution_id_of(message: bytes) -> UUID:
    """Return the distribution id of a sender key message or a distribution message.

    Raises:
        InvalidMessage: it does not begin as either does.

    Source: libsignal, ``SenderKeyMessage`` and ``SenderKeyDistributionMessage``: a version byte, then a protobuf message
    whose first field is the id in 16 bytes.
    """
    if len(message) < 19 or message[1:3] != _DISTRIBUTION_ID_FIELD:
        raise InvalidMessage(_RULES["InvalidMessage"])
    return UUID(bytes=message[3:19])


def _error(refused: CallRefused) -> ProtocolError:
    name = refused.name if refused.name in _RULES else "InvalidArgument"
    error: type[ProtocolError] = getattr(errors, name)
    return error(_RULES[name])


def _record(record: bytes | None) -> bytes | None:
    """Libsignal takes no bytes for an empty but valid record."""
    if record is not None and not record:
        raise CorruptRecord("a stored record is not empty")
    return record


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("the worker returns bytes")
    return value


def _hint(value: int) -> ContentHint:
    """The hint comes from the sender, who may know more of them than we do."""
    try:
        return ContentHint(value)
    except ValueError:
        return ContentHint.DEFAULT


def _local(device: LocalDevice) -> list[object]:
    identity = device.identity
    return [
        device.address.service_id,
        device.address.device_id,
        device.registration_id,
        _record(identity.private_key),
        _record(identity.public_key),
    ]


def _remote(address: Address) -> list[object]:
    return [address.service_id, address.device_id]


def _bundle(bundle: PrekeyBundle) -> list[object]:
    signed, kyber, one_time = bundle.signed_prekey, bundle.kyber_prekey, bundle.one_time_prekey
    return [
        bundle.registration_id,
        bundle.device_id,
        bundle.identity_key,
        [signed.key_id, signed.public_key, signed.signature],
        [kyber.key_id, kyber.public_key, kyber.signature],
        None if one_time is None else [one_time.key_id, one_time.public_key],
    ]


def _check_key_ids(first_id: int, count: int) -> None:
    if not 1 <= count <= MAX_KEYS_AT_ONCE:
        raise InvalidArgument("1 to 1,000 keys are made at once")
    if first_id < 1 or first_id + count - 1 > MAX_KEY_ID:
        raise InvalidArgument("a key id is from 1 to 2^24 - 2")


def _chunks(first: int, count: int, size: int) -> list[tuple[int, int]]:
    return [(first + done, min(size, count - done)) for done in range(0, count, size)]
