"""An answer of the assistant, from its first frame to what its receipt proves. No I/O.

The enclave and whoever carries its frames may be hostile: frames are bounded, late and doubled ones change nothing, and what is no
answer ends the waiting at once. That the consents behind an answer are genuine is for ``client.sharing``, which knows the members.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from attestation import AttestationError, Claims, Receipt, consent_set_digest, parse_receipt, verify_receipt
from attestation.bundle import Bundle
from messaging.client.assistant_errors import AssistantRefused, ReceiptRefused
from messaging.wire.answers import AnswerPart, FrameReader
from messaging.wire.assistant import (
    Actions,
    Forget,
    QuestionsForMe,
    RefusalCode,
    RequestKind,
    Result,
    SuggestReplies,
    Summarize,
    request_name,
)
from messaging.wire.consent import conversation_id
from messaging.wire.content import AnswerFrame
from messaging.wire.errors import MalformedField

CLOCK_TOLERANCE = timedelta(minutes=5)  # between an enclave's clock and ours; consent ends by the enclave's


@dataclass(frozen=True, slots=True)
class Answered:
    """A result, and what proves where, by what and under whose consent it was made.

    ``receipt`` was verified under the evidence in ``bundle``; the bytes are what it hashes. A status has none.
    """

    result: Result
    receipt: Receipt | None
    signed_receipt: bytes | None = field(repr=False)
    request_bytes: bytes = field(repr=False)
    result_bytes: bytes = field(repr=False)
    bundle: Bundle = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proved:
    """An appraisal that was accepted. ``digest`` is the SHA-256 of the evidence document."""

    claims: Claims
    bundle: Bundle
    digest: bytes


@dataclass(slots=True)
class AwaitedAnswer:
    """An answer on its way. ``done`` gets the part with the result when the last frame is there."""

    done: asyncio.Future[AnswerPart]
    on_text: Callable[[str], None] | None
    _reader: FrameReader = field(default_factory=FrameReader)
    _last: AnswerPart | None = field(default=None, repr=False)

    def take(self, frame: AnswerFrame) -> None:
        """Take one frame, in any order; text is shown as it comes."""
        if self.done.done():
            return
        try:
            for part in self._reader.read(frame):
                self._take_part(part)
        except MalformedField:
            self.done.set_exception(AssistantRefused(RefusalCode.MALFORMED))
        except Exception as error:  # noqa: BLE001  # of ``on_text``: it is for whoever asked, not for whoever received
            self.done.set_exception(error)
        else:
            if self._reader.ended and self._last is not None:
                self.done.set_result(self._last)

    def _take_part(self, part: AnswerPart) -> None:
        if part.text and self.on_text is not None:
            self.on_text(part.text)
        if part.result is not None:
            self._last = part


def read_result(part: AnswerPart) -> Result:
    """What the assistant says.

    Raises:
        AssistantRefused: nothing that this version understands.
    """
    try:
        return Result.parse(part.result or b"")
    except MalformedField:
        raise AssistantRefused(RefusalCode.MALFORMED) from None


def check_receipt(
    proved: Proved, kind: RequestKind, request: bytes, result: Result, part: AnswerPart, *, now: datetime
) -> Receipt:
    """The receipt is by the proved enclave, of this time, for this very request and answer, and says the same as the answer.

    Args:
        now: by our own clock.

    Raises:
        ReceiptRefused: it is not.
    """
    if part.receipt is None or part.result is None:
        raise ReceiptRefused("there is none")
    try:
        receipt = verify_receipt(parse_receipt(part.receipt), proved.claims, proved.bundle.evidence)
        consents = consent_set_digest((each.author.to_bytes(), each.digest) for each in result.consents)
    except (AttestationError, ValueError) as error:
        raise ReceiptRefused(str(error)) from None
    asked = request_name(kind), hashlib.sha256(request).digest(), _conversation_of(kind)
    if (receipt.kind, receipt.request, receipt.conversation) != asked:
        raise ReceiptRefused("it is for another request")
    if receipt.answer != hashlib.sha256(part.result).digest():
        raise ReceiptRefused("it is for another answer")
    if receipt.consents != consents:
        raise ReceiptRefused("it names other consents than the answer")
    if (receipt.engine, receipt.model, receipt.instructions) != (result.engine, result.model, result.instructions):
        raise ReceiptRefused("it names another engine than the answer")
    if abs(receipt.time - now) > CLOCK_TOLERANCE:
        raise ReceiptRefused(
            "its time is more than five minutes from this device's clock; if this one is right, the enclave's host has a wrong one"
        )
    return receipt


def _conversation_of(kind: RequestKind) -> bytes | None:
    match kind:
        case Summarize(scope) | SuggestReplies(scope, _) | QuestionsForMe(scope) | Actions(scope):
            return conversation_id(scope.conversation)
        case Forget(conversation, _) if conversation is not None:
            return conversation_id(conversation)
        case _:
            return None
