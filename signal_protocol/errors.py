"""Every way in which the binding can fail, as one tree.

``ProtocolError`` is about the input: the same call fails again, so it is never repeated. ``WorkerError`` is about the
worker process: nothing happened, and the call may be made again. The sentences name the broken rule. They hold no
address, no key and no text of libsignal's, so that any of them may be logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # types raises these errors
    from signal_protocol.types import Address


class SignalError(Exception):
    """The base of all errors of this package, except those of ``signal_protocol.public``."""


class ProtocolError(SignalError):
    """The input breaks a rule of the protocol. Nothing was changed."""


class InvalidMessage(ProtocolError):
    """The message is malformed, was tampered with, or was encrypted for somebody else."""


class DuplicateMessage(ProtocolError):
    """The message was decrypted before. To acknowledge it again is safe; to show it again is not."""


class NoSession(ProtocolError):
    """No usable session: none was started, it is archived, or the peer has not answered for 30 days.

    For a sender key: its distribution message has not been processed. Fetch a new prekey bundle, or ask for the key.
    """


class UntrustedIdentity(ProtocolError):
    """The peer's identity key is not the one that is trusted. Appraise it, then ``trust_identity`` and call again.

    Attributes:
        address: the peer's device.
        identity_key: the key it uses now, 33 bytes.
    """

    def __init__(self, address: Address, identity_key: bytes) -> None:
        super().__init__("the peer's identity key is not the trusted one")
        self.address = address
        self.identity_key = identity_key


class KeyNotFound(ProtocolError):
    """The message needs a prekey that is not stored: used up, too old, or of a previous installation."""


class VerificationFailed(ProtocolError):
    """A signature in a prekey bundle, or on a group message, does not match its key."""


class UntrustedCertificate(ProtocolError):
    """A sender certificate has expired, no trust root vouches for it, or its key is not the sender's identity key."""


class SelfSend(ProtocolError):
    """A sealed message that this very device sent."""


class InvalidArgument(ProtocolError):
    """An argument is outside what the protocol allows, for example an address that is not a service id."""


class TooLarge(ProtocolError):
    """A request or its result does not fit a frame of 16 MiB."""


class SessionTooLarge(ProtocolError):
    """A peer's messages made the session record grow beyond its limit.

    The message is not decrypted and the stored session is archived. ``start_session`` with a new bundle begins a small
    record.
    """


class CorruptRecord(ProtocolError):
    """A record of our own cannot be read. Raise an alarm; do not delete it silently."""


class StoreConflict(SignalError):
    """Records kept changing under a call, which gave up. Another process writes to the same store."""


class WorkerError(SignalError):
    """The worker could not do the call. Nothing happened; it may be made again."""


class WorkerUnavailable(WorkerError):
    """The worker cannot be started, or has failed so often that no new one is started for now."""


class WorkerDied(WorkerError):
    """The worker ended twice while it did this call. The call is kept in ``SignalCrypto.quarantine``."""


class WorkerTimeout(WorkerError):
    """No answer within the deadline."""


class WorkerBusy(WorkerError):
    """Too many calls, or too many bytes, are in flight."""


class WorkerPanicked(WorkerError):
    """libsignal, or the worker itself, met a state that it does not expect. The worker is replaced."""
