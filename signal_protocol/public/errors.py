"""Why something was refused. Every error names the rule that was broken and never repeats the bytes that broke it."""


class PublicError(Exception):
    """The base of all errors of ``signal_protocol.public``."""


class InvalidKey(PublicError):
    """A key has not the length, type byte or encoding that its kind requires."""


class InvalidSignature(PublicError):
    """The signature does not prove that the owner of the key signed the message."""


class MalformedMessage(PublicError):
    """The bytes are not what the format prescribes. Nothing of them may be used."""


class UntrustedCertificate(PublicError):
    """A well-formed certificate that no trust root vouches for at the given time."""
