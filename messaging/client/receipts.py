"""The receipt file: what a requester keeps of one answer, and can show to others.

One canonical JSON object and one newline hold the signed receipt, the bundle that proves whose it is, the statements of consent
that it names, and the request and the answer, unless they were taken out for those who may not read them. Syntax only: nothing in
it is trusted before ``messaging.client.receipt_checks`` has judged it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attestation import consent_set_digest
from attestation.bundle import Bundle
from attestation.encoding import as_list, as_name, as_object, decode, encode, from_base64, to_base64
from attestation.errors import MalformedCollateral, MalformedEvidence, MalformedReceipt
from attestation.limits import MAX_BUNDLE, MAX_NAME, MAX_RECEIPT
from messaging.wire.answers import MAX_ANSWER
from messaging.wire.consent import SignedConsent
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import EC_PUBLIC_KEY, MAX_CONSENTS, MAX_CONTENT, SIGNATURE

VERSION = 1
MAX_STATEMENT = 1024  # bytes of one statement of consent; one has about 70
MAX_RECEIPT_FILE = MAX_BUNDLE + 4 * 1024 * 1024  # bytes: the bundle, and the rest in base64
_STARTS = (b'{"answer":', b'{"bundle":{')  # a bundle's own file begins with its version, a number
_END = b"\n"


@dataclass(frozen=True, slots=True)
class ShownConsent:
    """An author's statement, and the identity key (33 bytes) that it is said to be signed with."""

    author: ServiceId
    identity_key: bytes
    signed: SignedConsent

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "author": str(self.author),
            "identity_key": to_base64(self.identity_key),
            "signature": to_base64(self.signed.signature),
            "statement": to_base64(self.signed.statement),
        }

    @classmethod
    def read(cls, value: object) -> "ShownConsent":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing, of another type, or has the wrong length.
            MalformedField: the author is no service id.
        """
        members = as_object(value)
        signed = SignedConsent(from_base64(members.get("statement")), from_base64(members.get("signature")))
        author = ServiceId.parse(as_name(members.get("author"), limit=MAX_NAME))
        shown = cls(author, from_base64(members.get("identity_key")), signed)
        if not shown.fits:
            raise MalformedEvidence("a consent has a part of the wrong length")
        return shown

    @property
    def name(self) -> tuple[bytes, bytes]:
        """What stands for it in a consent set: the author's binary service id, and the digest of the signed statement."""
        return self.author.to_bytes(), self.signed.digest()

    @property
    def fits(self) -> bool:
        """Whether its parts have lengths that can be written."""
        lengths = len(self.identity_key) == EC_PUBLIC_KEY and len(self.signed.signature) == SIGNATURE
        return lengths and len(self.signed.statement) <= MAX_STATEMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """One answer's receipt, with all that is needed to check it offline.

    ``signed`` is the receipt as it came, ``request`` and ``answer`` the exact bytes whose digests it names. ``consents`` are the
    statements that the answer rests on, in the byte order of their authors and digests however they were given.
    """

    bundle: Bundle
    signed: bytes = field(repr=False)
    consents: tuple[ShownConsent, ...]
    request: bytes | None = field(default=None, repr=False)
    answer: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.consents, key=lambda shown: shown.name))
        object.__setattr__(self, "consents", ordered)  # one set has one order, and so one file
        if len({shown.name for shown in ordered}) != len(ordered) or len(ordered) > MAX_CONSENTS:
            raise ValueError("a consent stands in a receipt file once, and there are not too many")
        if not all(shown.fits for shown in ordered):
            raise ValueError("a consent has a part of the wrong length")
        parts = ((self.signed, MAX_RECEIPT), (self.request or b"", MAX_CONTENT), (self.answer or b"", MAX_ANSWER))
        if any(len(part) > limit for part, limit in parts):
            raise ValueError("a part of the receipt file is too large")

    def consent_set_digest(self) -> bytes:
        """What the receipt has to name, if these are the consents that the answer rests on."""
        return consent_set_digest(shown.name for shown in self.consents)

    def consents_of(self, author: ServiceId) -> tuple[ShownConsent, ...]:
        """The statements of ``author``: several where their messages were written under several."""
        return tuple(shown for shown in self.consents if shown.author == author)

    def without_content(self) -> "ReceiptFile":
        """The same without request and answer, to show a member what was done with their consent: those are the requester's."""
        return replace(self, request=None, answer=None)

    def encode(self) -> bytes:
        """The file; :meth:`parse` reads whatever this writes.

        Raises:
            ValueError: the bundle is too large, or a part of its collateral is.
        """
        return self._write(self.bundle.encode())

    def _write(self, bundle: bytes) -> bytes:
        members: dict[str, object] = {
            "bundle": decode(bundle, limit=MAX_BUNDLE),
            "consents": [shown.members() for shown in self.consents],
            "receipt": VERSION,
            "signed": to_base64(self.signed),
        }
        content = {"answer": self.answer, "request": self.request}
        members |= {name: to_base64(data) for name, data in content.items() if data is not None}
        return encode(members) + _END

    @classmethod
    def parse(cls, data: bytes) -> "ReceiptFile":
        """Undo :meth:`encode`.

        Raises:
            MalformedReceipt: anything but the canonical encoding of a receipt file of this version and its newline.
        """
        try:
            file = cls._read(decode(data, limit=MAX_RECEIPT_FILE))
            canonical = file.encode()
        except (MalformedEvidence, MalformedCollateral, MalformedField) as error:
            raise MalformedReceipt(str(error)) from None
        except (ValueError, RecursionError):
            raise MalformedReceipt("a part of the receipt file is too large, doubled, nested or no text") from None
        if canonical != data:
            raise MalformedReceipt("the file is not in canonical form, or has members unknown to this version")
        return file

    @classmethod
    def _read(cls, members: Mapping[str, object]) -> "ReceiptFile":
        return cls(
            bundle=Bundle.parse(encode(as_object(members.get("bundle"))) + _END),
            signed=from_base64(members.get("signed")),
            consents=tuple(ShownConsent.read(item) for item in as_list(members.get("consents"), limit=MAX_CONSENTS)),
            request=from_base64(members["request"]) if "request" in members else None,
            answer=from_base64(members["answer"]) if "answer" in members else None,
        )


def looks_like_receipt_file(data: bytes) -> bool:
    """Whether :meth:`ReceiptFile.parse` is what should read this: nothing else of ours begins so."""
    return data.startswith(_STARTS)
