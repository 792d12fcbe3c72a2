"""A device: registers, sends, receives, and keeps what it must not lose.

What arrives is decrypted and stored in one transaction, and acknowledged to the relay only after its commit. What is sent is
stored before. So a crash at any line loses nothing and shows nothing twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Self
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from messaging.client.access import AccessKeys, learn
from messaging.client.account import Account, register_as_assistant, register_with_number
from messaging.client.assistant_reports import report_nonce, send_report
from messaging.client.attachments import Attachments
from messaging.client.background import Background
from messaging.client.bot_accounts import BotAccounts
from messaging.client.certificates import Certificates
from messaging.client.connection import ChatConnection, ConnectionLost, Relay
from messaging.client.distributions import Distributions
from messaging.client.errors import (
    ClientError,
    CredentialsRevoked,
    Displaced,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    StoreFailed,
    TrustRootChanged,
)
from messaging.client.groups import GroupSender
from messaging.client.held_back import Held, HeldBack
from messaging.client.linking import LinkedDevice, add_device, link_device, list_devices, remove_device
from messaging.client.parking import retry_parked
from messaging.client.prekeys import top_up_prekeys
from messaging.client.problems import Failed, Problem, Problems, Undecryptable
from messaging.client.requests import Requests
from messaging.client.sending import Sender
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.assistants import AssistantReport, AssistantState
from messaging.wire.content import (
    Content,
    ProfileKeyUpdate,
    SenderKeyDistribution,
    SentTranscript,
    Told,
    decode_content,
)
from messaging.wire.envelope import Envelope, EnvelopeType, decode_envelope
from messaging.wire.errors import MalformedContent, MalformedField
from messaging.wire.frames import Request
from messaging.wire.identifiers import DeviceAddress, ServiceId
from signal_protocol import types as signal_types
from signal_protocol.errors import DuplicateMessage, ProtocolError, SignalError, UntrustedIdentity
from signal_protocol.operations import SignalCrypto
from signal_protocol.public.keys import sign
from signal_protocol.sessions import SessionService
from signal_protocol.types import Decrypted, MessageKind, SafetyNumber

INBOX = "inbox"
_NAMED_SECRET = b"subrosa named secret v1\x00"
DEADLINE = 30.0  # seconds until a send gives up waiting for the relay
STORE_PAUSE = 5.0  # seconds until the store is tried again after it could not be written
KEEP_UP_SECONDS = 60.0  # between two looks at what has to be sent, uploaded or fetched

_KINDS = {EnvelopeType.CIPHERTEXT: MessageKind.WHISPER, EnvelopeType.PREKEY_MESSAGE: MessageKind.PREKEY}


@dataclass(frozen=True, slots=True)
class Received:
    """One content that arrived, from its authenticated sender. ``server_timestamp`` is milliseconds since 1970.

    ``identity_key`` is the sender's key under which it came, which by now may be trusted no more.
    """

    id: int
    sender: DeviceAddress
    content: Content = field(repr=False)
    server_timestamp: int
    sealed: bool
    identity_key: bytes = b""


@dataclass(frozen=True, slots=True)
class _Untrusted:
    """Whose new identity key has to be trusted before an envelope can be taken."""

    sender: DeviceAddress
    identity_key: bytes


def milliseconds_now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Device:
    """One registered device. Use it in ``async with``: it is connected until the end of the block."""

    def __init__(
        self,
        store: Store,
        relay: Relay,
        crypto: SignalCrypto,
        account: Account,
        *,
        deadline: float = DEADLINE,
        now: Callable[[], int] = milliseconds_now,
    ) -> None:
        self._store = store
        self._relay = relay
        self._crypto = crypto
        self._account = account
        self._now = now
        self._sessions: SessionService[StoreTransaction] = SessionService(
            crypto, store, account.local, trust_roots=[account.trust_root], now=now
        )
        self._connection = ChatConnection(relay, account.authorization, self._on_request)
        self._access = AccessKeys(store)
        self._bots = BotAccounts(store)
        self._attachments = Attachments(relay, account, store, now=now)
        requests = Requests(relay, self._connection, deadline)
        certificates = Certificates(account, requests, now)
        self._sender = Sender(
            store,
            self._sessions,
            requests,
            account.address,
            access=self._access,
            bots=self._bots,
            certificates=certificates,
            now=now,
        )
        self._groups = GroupSender(
            store,
            self._sessions,
            requests,
            self._sender,
            account.service_id,
            access=self._access,
            certificates=certificates,
            now=now,
        )
        self._distributions = Distributions(store, self._sessions)
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()
        self._changed = asyncio.Condition()
        self._held_back = HeldBack()  # of this connection: the next one has another
        self._retry_parked = False
        self._upkeep = Background(self._keep_up, KEEP_UP_SECONDS, self.note_failure)
        self._problems = Problems()
        self._failure: BaseException | None = None
        self._news = 0  # grows with everything that somebody may wait for

    # --- becoming a device ---

    @classmethod
    async def register(
        cls,
        store: Store,
        relay: Relay,
        crypto: SignalCrypto,
        *,
        number: str,
        code: Callable[[], Awaitable[str]],
        deadline: float = DEADLINE,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """Register ``number`` (E.164); ``code`` is awaited for the code that was sent to it.

        Raises:
            InvalidNumber: not in E.164 form.
            RegistrationRefused: the relay did not accept number, code or registration.
            AccountSuspended: the number's account is.
            RelayUnreachable: no answer.
        """
        account = await register_with_number(store, relay, crypto, number=number, code=code, now=now())
        return cls(store, relay, crypto, account, deadline=deadline, now=now)

    @classmethod
    async def register_assistant(
        cls,
        store: Store,
        relay: Relay,
        crypto: SignalCrypto,
        *,
        name: str,
        token: str,
        deadline: float = DEADLINE,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """Register the assistant ``name`` with fresh keys; an assistant of this name from before is replaced.

        Raises:
            RegistrationRefused: the token was not accepted.
            AccountSuspended: the assistant's account is.
            RelayUnreachable: no answer.
        """
        account = await register_as_assistant(store, relay, crypto, name=name, token=token, now=now())
        return cls(store, relay, crypto, account, deadline=deadline, now=now)

    @classmethod
    async def link(
        cls,
        store: Store,
        relay: Relay,
        crypto: SignalCrypto,
        *,
        show: Callable[[str], Awaitable[None]],
        name: str,
        deadline: float = DEADLINE,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """Become another device of an existing account; ``show`` gets the link that its first device must scan, and returns.

        Whoever reads the link can make this device one of *their* account, so show it to its user alone. Only the account's
        own devices read ``name``.

        Raises:
            InvalidDeviceName: empty, or too long.
            LinkExpired: nobody answered in 90 seconds, or what they sent is too old.
            MalformedProvisioning: what was sent is not from an existing device, or not for this one.
            TooManyDevices: the account has no room for it.
            RegistrationRefused: the relay did not take it for another reason.
            RelayUnreachable, RelayRefused: no answer, or none that can be used.
        """
        account = await link_device(store, relay, crypto, show=show, name=name, now=now())
        return cls(store, relay, crypto, account, deadline=deadline, now=now)

    @classmethod
    async def open(
        cls,
        store: Store,
        relay: Relay,
        crypto: SignalCrypto,
        *,
        deadline: float = DEADLINE,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """A device that was registered before.

        Raises:
            NotRegistered: the store holds no account.
            TrustRootChanged: this is not the relay it was registered at.
            RelayUnreachable: no answer.
        """
        account = await Account.load(store)
        if (await relay.server_info()).trust_root != account.trust_root:
            raise TrustRootChanged
        return cls(store, relay, crypto, account, deadline=deadline, now=now)

    async def __aenter__(self) -> Self:
        # Of the own account no other key is ever trusted, so that the relay cannot add a device to it.
        await self._sessions.trust_identity(str(self.service_id), self.identity_key)
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._upkeep.run())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- who it is ---

    @property
    def service_id(self) -> ServiceId:
        """The account's service id."""
        return self._account.service_id

    @property
    def address(self) -> DeviceAddress:
        """The address of this device."""
        return self._account.address

    @property
    def identity_key(self) -> bytes:
        """The account's public identity key, 33 bytes."""
        return self._account.identity.public_key

    @property
    def attachments(self) -> Attachments:
        """Uploads and downloads of files; they need no connection of this device, only its relay."""
        return self._attachments

    # --- sending ---

    async def send(self, to: ServiceId, content: Content, *, only_to: bytes | None = None) -> None:
        """Deliver ``content`` to every device of ``to``; returns once the relay has stored it for all of them.

        It is sealed, so that the relay does not learn who sends, if ``to`` is known to allow it: by its profile key
        (:meth:`learn_profile_key`) or because anybody may (:meth:`mark_unrestricted`). If the relay does not take that, the
        message goes the other way, and the access is forgotten.

        Args:
            only_to: the identity key that ``to`` has to have whenever it is delivered, also if it waits in the outbox and another
                one has come to be trusted by then. Without it the message is for whoever is trusted then.

        Raises:
            IdentityChanged: ``to`` has another identity key than the trusted one; nothing was sent.
            UnknownRecipient: no such account.
            ContentTooLarge: it does not fit an envelope.
            RelayUnreachable: no answer in time; the content stays in the outbox and goes out later.
            RelayRefused: the relay did not take it.
            CredentialsRevoked, Displaced: this device is not connected any more.
            SignalError: libsignal's worker cannot be used.
        """
        await self._sender.send(to, content, only_to=only_to)

    async def send_passing(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to those devices of ``to`` that are connected now, and to no other later.

        Raises:
            As :meth:`send`; nothing waits in the outbox.
        """
        await self._sender.send_passing(to, content)

    async def send_to_own_devices(self, content: Content) -> None:
        """Deliver ``content`` to every other device of the own account; does nothing if there is none.

        Raises:
            As :meth:`send`. ``IdentityChanged``: the relay shows a device that does not have the account's identity key.
        """
        await self._sender.send(self.service_id, content)

    async def send_to_group(
        self,
        distribution_id: UUID,
        to: Collection[ServiceId],
        content: Content,
        *,
        only_to: Mapping[ServiceId, bytes] = MappingProxyType({}),
    ) -> Mapping[ServiceId, ClientError]:
        """Deliver ``content`` to every device of every account in ``to``, encrypted once; returns whom it does not reach.

        ``distribution_id`` names this account's sender key for the group; sends under one id keep their order. Whoever may
        have that key and is not in ``to`` any more is shut out by a new one before anything is encrypted. The relay gets
        one request that does not say who sends; accounts whose access is not known get the content pairwise. The own
        account gets nothing. ``only_to`` names the identity keys that some of them have to have, as :meth:`send` explains.

        Returns:
            ``IdentityChanged``, ``UnknownRecipient`` and ``RelayRefused`` by account: it was not sent to these.
            ``RelayUnreachable``: it stays in the outbox for these and goes out later.

        Raises:
            ContentTooLarge, RelayRefused: it was sent to nobody.
            RelayUnreachable: no answer in time; all of it stays in the outbox and goes out later.
            CredentialsRevoked, Displaced, SignalError: as :meth:`send`.
        """
        return await self._groups.send(distribution_id, to, content, only_to=only_to)

    # --- sealed sending ---

    @property
    def profile_key(self) -> bytes:
        """The account's profile key, 32 bytes: who is sent it, as a ``ProfileKeyUpdate``, can send to it sealed."""
        return self._account.profile_key

    async def learn_profile_key(self, service_id: ServiceId, profile_key: bytes) -> None:
        """Send to this account sealed from now on. A ``ProfileKeyUpdate`` that arrives does this by itself.

        Raises:
            ValueError: not 32 bytes.
        """
        await self._access.learn(service_id, profile_key)

    async def mark_unrestricted(self, service_id: ServiceId) -> None:
        """Send to this account sealed from now on: anybody may, as to an assistant."""
        await self._access.mark_unrestricted(service_id)

    # --- the account's devices ---

    async def add_device(self, url: str) -> int:
        """Make the device that shows the link ``url`` one of this account's; returns its id once it has registered.

        It gets the account's identity keys and profile key. So take a link only from a screen that the user holds in hand.

        Raises:
            MalformedLink: not the link of a new device.
            LinkExpired: the new device does not wait there any more.
            TooManyDevices: the account has no room for it.
            NotPrimary: only the account's first device does this.
            NotLinked: it has not registered within a minute.
            RelayRefused, RelayUnreachable: the relay did not take part.
            CredentialsRevoked: this device is not registered any more.
        """
        self._sender.expect_device()
        return await add_device(self._relay, self._account, url)

    async def devices(self) -> tuple[LinkedDevice, ...]:
        """The account's devices, this one included, by id.

        Raises:
            RelayRefused, RelayUnreachable, CredentialsRevoked: the relay did not say.
        """
        return await list_devices(self._relay, self._account)

    async def remove_device(self, device_id: int) -> None:
        """Take a device off the account, with what waits for it. The first device removes any other, others only themselves.

        Raises:
            NotPrimary: another device's, and this is not the first one.
            RelayRefused: the first device, which nobody removes.
            RelayUnreachable: no answer; it may be done or not, and may be said again.
            CredentialsRevoked: this device is not registered any more.
        """
        await remove_device(self._relay, self._account, device_id)

    # --- an assistant says whether it can be asked ---

    async def set_accepting(self, name: str, accepting: bool) -> None:
        """Have the relay list the assistant ``name``, which this device must be of, as one that takes requests, or drains.

        Raises:
            RelayRefused: this is not a device of that assistant.
            RelayUnreachable: no answer; it may be done or not, and may be said again.
            CredentialsRevoked, Displaced: this device is not connected any more.
        """
        body = AssistantState(accepting=accepting).to_json()
        try:
            answer = await self._connection.request("PUT", f"/v1/assistants/{name}/state", body)
        except ConnectionLost:
            raise RelayUnreachable from None
        if answer.status != 204:
            raise RelayRefused(answer.status)

    async def report_nonce(self, name: str) -> bytes:
        """The nonce (32 bytes) that the next report of the assistant ``name``, which this device must be of, has to answer.

        Raises:
            RelayRefused: this is not a device of that assistant, or the relay takes no reports.
            RelayUnreachable, CredentialsRevoked: the relay did not say.
        """
        return await report_nonce(self._relay, self._account, name)

    async def report(self, name: str, report: AssistantReport) -> None:
        """Tell the operator how the assistant ``name``, which this device must be of, does.

        Raises:
            RelayRefused: this is not a device of that assistant, or its evidence does not answer the relay's nonce.
            RelayUnreachable: no answer; it may be done or not.
            CredentialsRevoked: this device is not registered any more.
        """
        await send_report(self._relay, self._account, name, report)

    # --- receiving ---

    async def ready(self) -> None:
        """Wait until everything that waited at the relay has been taken in once.

        Raises:
            CredentialsRevoked, Displaced: the connection has ended for good.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._ready.is_set() or self._failure is not None)
        self._raise_failure()

    async def connected(self) -> None:
        """Wait until the relay is there; what waits at it arrives from then on.

        Raises:
            CredentialsRevoked, Displaced: the connection has ended for good.
        """
        await self._connection.connected()

    async def received(self) -> AsyncIterator[Received]:
        """What has arrived, in order, for ever; each once, and again after a crash unless :meth:`done` was called.

        Raises:
            CredentialsRevoked, Displaced: the connection has ended for good and everything was given out.
        """
        last = 0
        while True:
            news = self._news
            async with self._store.transaction() as transaction:
                entries = transaction.entries(INBOX, after=last)
            for number, entry in entries:
                last = number
                if (received := await self._read(number, entry)) is not None:
                    yield received
            if not entries:
                self._raise_failure()
                await self._wait_for_news(news)

    async def done(self, received: Received) -> None:
        """The application has dealt with it: it need not be shown again."""
        async with self._store.transaction() as transaction:
            transaction.remove(INBOX, received.id)

    def problems(self) -> list[Problem]:
        """What could not be read, what failed in the background, and peers whose identity changed, since the last call."""
        return self._problems.take()

    def note_failure(self, error: Exception) -> None:
        """Have a failure in the background told as a problem, by its type alone."""
        self._problems.note(Failed(type(error).__name__))

    # --- trust ---

    async def fetch_identity(self, service_id: ServiceId) -> bytes:
        """The identity key that messages to ``service_id`` go to; fetches a bundle if there is no session yet.

        Raises:
            As :meth:`send`.
        """
        return await self._sender.identity_of(service_id)

    async def bots_among(self, service_ids: Collection[ServiceId]) -> frozenset[ServiceId]:
        """Those of these accounts that the relay has marked as bots, when this device fetched their prekeys."""
        return await self._bots.among(service_ids)

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        """The identity key that is trusted for ``service_id``, if any was seen."""
        return await self._sessions.trusted_identity(str(service_id))

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        """Trust a new identity key, after comparing safety numbers or appraising it; takes in what was held back.

        Up to 16 envelopes of an account are held back, and 64 in all. What was beyond comes again soon, also if it was refused so
        often that the relay has parked it; of what is parked, the first hundred. The rest stays parked until somebody is
        trusted again, or until it expires.

        Raises:
            ValueError: the own account, whose identity key is never another one.
            RelayUnreachable: it is trusted, and what was held back is taken in on the next connection, or by the next call.
        """
        if service_id == self.service_id and identity_key != self.identity_key:
            raise ValueError("the own account has the identity key that it has")
        await self._sessions.trust_identity(str(service_id), identity_key)
        try:
            await self._take_held(service_id)
        finally:
            self._retry_parked = True
            self._upkeep.wake()

    async def _take_held(self, service_id: ServiceId) -> None:
        held_back = self._held_back
        for held in held_back.of(service_id):
            try:
                taken = await self._take(held.envelope)
            except ConnectionLost:
                raise RelayUnreachable from None  # it is still held, and so is what follows
            # On another connection the number of this request is another one's.
            if isinstance(taken, int) and held_back.release(held) and held_back is self._held_back:
                await self._connection.answer(held.request, taken)

    async def safety_number(self, with_: ServiceId) -> SafetyNumber:
        """What two people compare to know that nobody sits between them."""
        return await self._sessions.safety_number(str(with_))

    def named_secret(self, name: str) -> bytes:
        """32 bytes that only this account can derive, the same for the same name: HKDF-SHA-256 (RFC 5869) of its identity key."""
        info = _NAMED_SECRET + name.encode()
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._account.identity.private_key)

    def sign(self, message: bytes) -> bytes:
        """The account's signature over ``message``: XEdDSA by its identity key, 64 bytes."""
        return sign(self._account.identity.private_key, message)

    async def forget_sender_keys(self, service_id: ServiceId) -> None:
        """Delete every sender key that this account's devices gave: what they write to groups cannot be read any more.

        Raises:
            ValueError: the own account, whose keys are for sending.
        """
        if service_id == self.service_id:
            raise ValueError("one's own sender keys are not forgotten")
        await self._distributions.forget(service_id)

    # --- inside ---

    async def _stay_connected(self) -> None:
        try:
            await self._connection.run(self._forget_held, self.note_failure)
        except Exception as failure:  # noqa: BLE001  # whoever waits has to hear of it, whatever it is
            self._failure = failure
            await self._notify()

    def _forget_held(self) -> None:
        """On a new connection: what was held back, or refused, is delivered again."""
        self._held_back = HeldBack()

    async def _keep_up(self) -> None:
        """Fetch what can be taken by now, send what was left in the outbox, and see that prekeys do not run out."""
        with suppress(
            ConnectionLost, RelayUnreachable, CredentialsRevoked, Displaced
        ):  # told by what the application asks for
            await self._fetch_refused()
            await self._sender.resend()
            await self._groups.resend()
            await top_up_prekeys(self._store, self._crypto, self._account, self._connection, self._now())

    async def _fetch_refused(self) -> None:
        """After somebody was trusted: what was refused before comes again, in the order of the mailbox."""
        if not self._retry_parked:
            return
        self._retry_parked = False  # before it is done: who is trusted meanwhile has it done again
        try:
            await retry_parked(self._connection)
        except BaseException:
            self._retry_parked = True
            raise
        if self._held_back.refused:
            await self._connection.reconnect()

    async def _on_request(self, request: Request) -> int | None:
        path = request.path.partition("?")[0]
        if (request.verb, path) == ("PUT", "/api/v1/queue/empty"):
            self._ready.set()
            await self._notify()
            return 200
        if (request.verb, path) != ("PUT", "/api/v1/message"):
            return 404
        try:
            envelope = decode_envelope(request.body or b"")
        except MalformedField:
            self._problems.note(Undecryptable(None, "MalformedField"))
            return 200
        taken = await self._take(envelope)
        return taken if isinstance(taken, int) else self._hold(request, envelope, taken)

    def _hold(self, request: Request, envelope: Envelope, untrusted: _Untrusted) -> int | None:
        """Keep it back if there is room. If there is not, the relay keeps it, and parks it when it has come too often."""
        self._problems.note_identity(IdentityChanged(untrusted.sender.service_id, untrusted.identity_key))
        return None if self._held_back.hold(Held(request, envelope, untrusted.sender)) else 500

    async def _take(self, envelope: Envelope) -> int | _Untrusted:
        """Decrypt and store one envelope; 200 if it need not come again."""
        if envelope.type is EnvelopeType.SERVER_DELIVERY_RECEIPT:
            return 200  # the relay's word only; a receipt that proves something comes encrypted, from the receiver
        try:
            await self._take_over_sender_keys()  # whatever was left when the worker or this process ended
            await self._decrypt(envelope)
            await self._take_over_sender_keys()  # before this is acknowledged, and before what follows
        except DuplicateMessage:
            return 200
        except UntrustedIdentity as error:
            sender = DeviceAddress(ServiceId.parse(error.address.service_id), error.address.device_id)
            if sender.service_id == self.service_id:  # nobody can decide to trust it
                self._problems.note(Undecryptable(sender, "UntrustedIdentity"))
                return 200
            if await self._sessions.trusted_identity(error.address.service_id) is None:
                self._problems.note(
                    Undecryptable(sender, "NoSession")
                )  # to a group, from somebody who never gave us a key
                return 200
            return _Untrusted(sender, error.identity_key)
        except (ProtocolError, MalformedField) as error:
            self._problems.note(Undecryptable(envelope.source, type(error).__name__))
            return 200
        except SignalError:
            raise ConnectionLost from None  # nothing is wrong with the envelope: take it again on a new connection
        except StoreFailed as error:
            self.note_failure(error)
            await asyncio.sleep(STORE_PAUSE)
            raise ConnectionLost from None
        await self._notify()
        return 200

    async def _decrypt(self, envelope: Envelope) -> None:
        if envelope.destination != self.service_id:
            raise MalformedField("destination")
        if envelope.type is EnvelopeType.UNIDENTIFIED_SENDER:

            async def keep_sealed(transaction: StoreTransaction, result: signal_types.Received) -> None:
                pairwise = result.kind is not MessageKind.SENDER_KEY
                sender = DeviceAddress.parse(str(result.sender))
                await self._keep(transaction, envelope, sender, result.plaintext, pairwise=pairwise)

            # By the relay's clock, as the certificate: it was good when the message was sent, however long we were away.
            await self._sessions.decrypt_sealed(envelope.content, keep_sealed, at=envelope.server_timestamp)
            return
        kind, source = _KINDS.get(envelope.type), envelope.source
        if kind is None or source is None:
            raise MalformedField("type")

        async def keep(transaction: StoreTransaction, result: Decrypted) -> None:
            await self._keep(transaction, envelope, source, result.plaintext, pairwise=True)

        remote = signal_types.Address(str(source.service_id), source.device_id)
        await self._sessions.decrypt(remote, kind, envelope.content, keep)

    async def _keep(
        self,
        transaction: StoreTransaction,
        envelope: Envelope,
        sender: DeviceAddress,
        plaintext: bytes,
        *,
        pairwise: bool,
    ) -> None:
        """Write down what an envelope held: keys where they belong, all else into the inbox."""
        sealed = envelope.type is EnvelopeType.UNIDENTIFIED_SENDER
        if sealed and sender.service_id == self.service_id:
            # Own devices show the relay who they are. Whoever does not may have been removed: a certificate is good for a day.
            self._problems.note(Undecryptable(sender, "NotFromOwnAccount"))
            return
        match _decoded(plaintext):
            case ProfileKeyUpdate(profile_key):
                learn(transaction, sender.service_id, profile_key)
            case SenderKeyDistribution(message) if pairwise:
                self._distributions.keep(transaction, sender, message)
            case SenderKeyDistribution():
                self._problems.note(Undecryptable(sender, "NotPairwise"))  # nothing says whose key it is
            case _:
                # The key that it was decrypted under.
                key = await transaction.load_identity(str(sender.service_id)) or b""
                header = f"{sender}\n{envelope.server_timestamp}\n{int(sealed)}\n{key.hex()}\n".encode()
                transaction.append(INBOX, header + plaintext)

    async def _take_over_sender_keys(self) -> None:
        for sender in await self._distributions.take_over():
            self._problems.note(Undecryptable(sender, "MalformedSenderKey"))

    async def _read(self, number: int, entry: bytes) -> Received | None:
        sender, server_timestamp, sealed, key, plaintext = entry.split(b"\n", 4)
        address = DeviceAddress.parse(sender.decode())
        try:
            content = decode_content(plaintext)
        except MalformedContent:
            await self._refuse(number, address, "MalformedContent")
            return None
        if isinstance(content, SentTranscript | Told) and address.service_id != self.service_id:
            await self._refuse(number, address, "NotFromOwnAccount")  # nobody else speaks for this account
            return None
        identity_key = bytes.fromhex(key.decode())
        return Received(number, address, content, int(server_timestamp), sealed == b"1", identity_key)

    async def _refuse(self, number: int, sender: DeviceAddress, reason: str) -> None:
        self._problems.note(Undecryptable(sender, reason))
        async with self._store.transaction() as transaction:
            transaction.remove(INBOX, number)

    async def _notify(self) -> None:
        async with self._changed:
            self._news += 1
            self._changed.notify_all()

    async def _wait_for_news(self, seen: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._news != seen)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _decoded(plaintext: bytes) -> Content | None:
    """``None`` if it cannot be read, which is told when the application would get it."""
    try:
        return decode_content(plaintext)
    except MalformedContent:
        return None
