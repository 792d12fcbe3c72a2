"""Reading what the user names: bounded, and with a sentence for everything that can go wrong."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from attestation import NO_COLLATERAL, AttestationError, Collateral, Policy
from attestation.appraisal.policy_file import PolicyKey, parse_policy, parse_policy_unsigned
from attestation.binding import NONCE
from attestation.bundle import Bundle
from attestation.errors import MalformedPolicy
from attestation.limits import MAX_POLICY
from messaging.client.receipts import MAX_RECEIPT_FILE, ReceiptFile, looks_like_receipt_file
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId

_KEY_FILE = 4096  # bytes; a key is one line
_BARE_RECEIPT = b"\xd2\x84"  # a tagged COSE_Sign1


class Unreadable(Exception):
    """A file or an option cannot be understood; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What is to be judged. ``time`` is the file's own, ``None`` if it has none; so is the nonce if ``nonce_from_file``.

    ``receipt`` is there if the file is a receipt's; the rest is then of the bundle in it.
    """

    evidence: bytes
    nonce: bytes
    nonce_from_file: bool
    collateral: Collateral
    time: datetime | None
    receipt: ReceiptFile | None = None


@dataclass(frozen=True, slots=True)
class ChosenPolicy:
    """A policy, and whose signature it carries; empty if it was not asked for."""

    policy: Policy
    signer: str


def read_presented(path: Path, nonce: str | None) -> Presented:
    """Read a receipt file, a bundle, or an evidence document together with the ``nonce`` (hex) that it has to answer.

    Raises:
        Unreadable: it is none of them, or ``nonce`` is missing for a document, or cannot be read.
    """
    data = read_file(path, MAX_RECEIPT_FILE)
    wanted = None if nonce is None else _nonce(nonce)
    if looks_like_receipt_file(data):
        receipt = _receipt_file(path, data)
        return _of_bundle(receipt.bundle, wanted, receipt)
    if data.startswith(b'{"bundle":'):
        return _of_bundle(_bundle(path, data), wanted)
    if data.startswith(_BARE_RECEIPT):
        raise Unreadable(
            f"{path} is a receipt alone. Who may trust it shows only its evidence: ask for the whole receipt file."
        )
    if wanted is None:
        raise Unreadable(
            f"{path} is no receipt file and no bundle. If it is an evidence document, name the nonce that it has to answer: "
            "--nonce HEX."
        )
    return Presented(data, wanted, False, NO_COLLATERAL, None)


def read_member(text: str | None) -> ServiceId | None:
    """Who asks, if somebody does.

    Raises:
        Unreadable: it is no service id.
    """
    try:
        return None if text is None else ServiceId.parse(text)
    except MalformedField:
        raise Unreadable("A member is named by a service id: 9d0652a3-dcc3-4d11-975f-74d61598733f.") from None


def read_policy(path: Path | None, key: str | None, *, unsigned: bool) -> ChosenPolicy:
    """Read a policy; without a file the strict default, which accepts no code at all.

    Args:
        path: the file.
        key: whose signature it has to carry: a key as ``subrosa policy new-key`` prints it, or a file that holds one.
        unsigned: read it without asking for a signature.

    Raises:
        Unreadable: it cannot be read, or the signature is missing or wrong.
    """
    if path is None:
        return ChosenPolicy(Policy(), "")
    data = read_file(path, MAX_POLICY)
    try:
        if unsigned:
            return ChosenPolicy(parse_policy_unsigned(data), "")
        if key is None:
            raise Unreadable(
                "Whose policy is this? Name the key of whoever signed it: --policy-key KEY. "
                "To read it without a signature, say --unsafe-unsigned-policy."
            )
        parsed = read_key(key)
        return ChosenPolicy(parse_policy(data, parsed), parsed.name)
    except MalformedPolicy as error:
        raise Unreadable(f"{path}: {error}.") from None


def read_key(text: str) -> PolicyKey:
    """A policy key, or the file that holds one.

    Raises:
        Unreadable: it is neither.
    """
    if "+" not in text:
        text = read_file(Path(text), _KEY_FILE).decode("utf-8", "replace")
    try:
        return PolicyKey.parse(text)
    except MalformedPolicy as error:
        raise Unreadable(f"The policy key cannot be read: {error}.") from None


def read_time(text: str) -> datetime:
    """A point in time: ``2026-06-01``, ``2026-06-01T12:00:00Z``, or ``now``. Without a zone it is UTC.

    Raises:
        Unreadable: it is none.
    """
    if text == "now":
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("The time is not of the form 2026-06-01T12:00:00Z.") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def read_file(path: Path, limit: int) -> bytes:
    """The file, if it has at most ``limit`` bytes.

    Raises:
        Unreadable: it cannot be opened, or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or 'input or output failed'}.") from None
    except ValueError:
        raise Unreadable("The name of a file cannot be read.") from None
    if len(data) > limit:
        raise Unreadable(f"{path} is too large to be what it should be.")
    return data


def _bundle(path: Path, data: bytes) -> Bundle:
    try:
        return Bundle.parse(data)
    except AttestationError as error:
        raise Unreadable(f"{path} is a damaged bundle: {error}.") from None


def _receipt_file(path: Path, data: bytes) -> ReceiptFile:
    try:
        return ReceiptFile.parse(data)
    except AttestationError as error:
        raise Unreadable(f"{path} is a damaged receipt file: {error}.") from None


def _of_bundle(bundle: Bundle, nonce: bytes | None, receipt: ReceiptFile | None = None) -> Presented:
    return Presented(bundle.evidence, nonce or bundle.nonce, nonce is None, bundle.collateral, bundle.time, receipt)


def _nonce(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE:
        raise Unreadable("A nonce is 64 hexadecimal digits.")
    return nonce
