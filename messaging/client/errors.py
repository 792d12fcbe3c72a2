"""Why the SDK did not do what was asked, as one tree. A sentence says what happened and what to do; it holds no content."""

from messaging.wire.identifiers import ServiceId


class ClientError(Exception):
    """The base of all errors of this package that are not programming mistakes."""


class NotRegistered(ClientError):
    """The store holds no account: register first."""

    def __init__(self) -> None:
        super().__init__("this store holds no account: register a device first")


class WrongKey(ClientError):
    """The store was made with another key, or was altered."""

    def __init__(self) -> None:
        super().__init__("the store cannot be opened: the key is not the one it was made with, or the file was altered")


class StoreInUse(ClientError):
    """Another process has the store open: two would use message keys twice."""

    def __init__(self) -> None:
        super().__init__("another process has this store open")


class StoreFailed(ClientError):
    """The store cannot be written now: the disk is full, or gone. Nothing of the transaction was written."""

    def __init__(self) -> None:
        super().__init__(
            "the store cannot be written: make room on its disk, or see that it is there and may be written"
        )


class CorruptStore(ClientError):
    """A record of the store was altered, moved or cut. Do not delete it silently: it may be an attack."""

    def __init__(self) -> None:
        super().__init__("a record of the store was altered or is damaged")


class InvalidNumber(ClientError):
    """Not a telephone number in E.164 form."""

    def __init__(self) -> None:
        super().__init__("a number is a plus sign, a country code and digits (E.164)")


class RegistrationRefused(ClientError):
    """The relay did not register the account; ``status`` is what it answered."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the relay refused the registration (HTTP {status})")
        self.status = status


class CredentialsRevoked(ClientError):
    """The relay does not know this device any more: it was registered anew elsewhere, or removed."""

    def __init__(self) -> None:
        super().__init__("the relay does not accept this device any more: register again")


class Displaced(ClientError):
    """The same device connected from somewhere else; this connection does not come back by itself."""

    def __init__(self) -> None:
        super().__init__("this device is connected somewhere else")


class RelayUnreachable(ClientError):
    """No answer from the relay within the deadline. What was being sent stays in the outbox and goes out later."""

    def __init__(self) -> None:
        super().__init__("the relay cannot be reached: check its address, its certificate and the network")


class AccountSuspended(RelayUnreachable):
    """An operator of the relay has suspended the account. The device looks again now and then, and goes on when it may.

    As with any ``RelayUnreachable``, what was being sent stays in the outbox.
    """

    def __init__(self) -> None:
        ClientError.__init__(self, "the account is suspended: ask the operators of its relay, who can let it go on")


class RelayRefused(ClientError):
    """The relay answered with a status that nothing can be done about, or with what no relay answers; nothing was stored."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the relay refused (HTTP {status})")
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether the same may be taken later: it was a rate limit, or a fault of the relay."""
        return self.status == 429 or self.status >= 500


class TrustRootChanged(ClientError):
    """The relay shows another sealed-sender trust root than at registration: it is not the same relay."""

    def __init__(self) -> None:
        super().__init__("the relay's trust root is not the one seen at registration")


class UnknownRecipient(ClientError):
    """The relay knows no such account."""

    def __init__(self) -> None:
        super().__init__("the relay knows no such account")


class ContentTooLarge(ClientError):
    """The content does not fit an envelope."""

    def __init__(self) -> None:
        super().__init__("the content does not fit an envelope")


class IdentityChanged(ClientError):
    """A peer uses another identity key than the trusted one: compare safety numbers, then ``Device.trust`` and repeat."""

    def __init__(self, service_id: ServiceId, identity_key: bytes) -> None:
        super().__init__("the peer has a new identity key; nothing was sent under it")
        self.service_id = service_id
        self.identity_key = identity_key


class MalformedLink(ClientError):
    """Not the link that a new device shows."""

    def __init__(self) -> None:
        super().__init__("this is not the link of a new device: scan its code again")


class LinkExpired(ClientError):
    """The new device does not wait any more, or was never answered: a link is good for 90 seconds."""

    def __init__(self) -> None:
        super().__init__("nobody waits at this link any more: show and scan a new code")


class NotLinked(ClientError):
    """The new device got the account's keys and has not registered yet; it may still do so for ten minutes."""

    def __init__(self) -> None:
        super().__init__("the new device has not registered in time: look at the account's devices before trying again")


class MalformedProvisioning(ClientError):
    """Not what a device of the account writes while it links another, or not for this device."""

    def __init__(self) -> None:
        super().__init__("what arrived is not from an existing device of the account: show a new code")


class TooManyDevices(ClientError):
    """The account has all the devices that it may have."""

    def __init__(self) -> None:
        super().__init__("the account has no room for another device: remove one first")


class NotPrimary(ClientError):
    """Only the account's first device adds and removes others."""

    def __init__(self) -> None:
        super().__init__("only the account's first device does this")


class InvalidDeviceName(ClientError):
    """A device's name is empty or too long."""

    def __init__(self) -> None:
        super().__init__("a device's name has at least one character and at most 169 bytes of UTF-8")


class AttachmentTooLarge(ClientError):
    """The file is larger than the relay takes, or than was asked for. Nothing of it was sent."""

    def __init__(self) -> None:
        super().__init__("the file is larger than an attachment may be here")


class AttachmentChanged(ClientError):
    """The file changed while it was uploaded, each time: what is uploaded has to hold still. Its upload is forgotten."""

    def __init__(self) -> None:
        super().__init__("the file changes while it is uploaded: upload a copy of it")


class AttachmentMissing(ClientError):
    """The relay has no such attachment: it has expired, or was never uploaded as a whole."""

    def __init__(self) -> None:
        super().__init__("the relay does not have this attachment: ask its sender for it again")


class AttachmentCorrupt(ClientError):
    """What the relay gives out is not what the sender's pointer describes, or the pointer describes no attachment."""

    def __init__(self) -> None:
        super().__init__("the attachment is not what its sender described: ask for it again")


class UploadRefused(RelayRefused):
    """The relay does not take an upload, or answered what no relay answers. If it ``passes``, the same call goes on later."""


class TooManyConversations(ClientError):
    """Others have begun as many conversations as this device keeps of those that it takes no part in; one more was not taken."""

    def __init__(self) -> None:
        super().__init__("somebody began a conversation, and there are too many that nobody here has answered")
