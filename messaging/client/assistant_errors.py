"""Why an assistant did not do what was asked, as one tree. An error says which check failed or what to do; it holds no content."""

from collections.abc import Iterable, Mapping

from messaging.client.errors import ClientError
from messaging.wire.assistant import RefusalCode


class AssistantError(ClientError):
    """The assistant did not do what was asked; nothing of the conversation was lost."""


class EvidenceRefused(AssistantError):
    """The assistant could not prove where it runs; ``check`` names the check that failed."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(f"the assistant's evidence was refused ({check}): {reason}")
        self.check = check


class PolicyDowngraded(AssistantError):
    """Somebody offers a policy that is older than one that was accepted; ``check`` names the check that failed."""

    check = "policy downgrade"

    def __init__(self) -> None:
        super().__init__(f"the policy was refused ({self.check}): a newer one of the same key was accepted before")


class ReceiptRefused(AssistantError):
    """An answer came without the receipt that proves where it was made and with whose consent; the answer was dropped."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the receipt of an answer was refused: {reason}")


class AssistantNotVerified(AssistantError):
    """The assistant has not been verified, or not lately, or has a new identity key since: call ``verify`` first."""

    def __init__(self) -> None:
        super().__init__("the assistant is not verified under its present identity key; it may have restarted")


class AssistantSilent(AssistantError):
    """No answer within the deadline: the enclave is down, busy, or cut off by the relay."""

    def __init__(self) -> None:
        super().__init__("the assistant did not answer in time: its enclave may be down or restarting")


class AssistantUnreachable(AssistantError):
    """The relay takes nothing for this assistant: the account is gone, or its keys change faster than one can follow."""

    def __init__(self) -> None:
        super().__init__("the relay delivers nothing to the assistant: its account may be gone")


class NoAssistant(AssistantError):
    """No assistant can be used now; ``refusals`` says of each that was asked what was wrong with it."""

    def __init__(self, refusals: Iterable[AssistantError] = ()) -> None:
        self.refusals = tuple(refusals)
        reasons = "; ".join(dict.fromkeys(str(refusal) for refusal in self.refusals))
        super().__init__(f"no assistant can be used now: {reasons or 'none is connected to the relay'}")


_ADVICE: Mapping[str, str] = {
    RefusalCode.NOT_OPTED_IN: "you have not opted in to this conversation, or it has forgotten it; opt in first",
    RefusalCode.NOT_A_MEMBER: "nobody whose messages it has counts you among the members of this conversation",
    RefusalCode.OUT_OF_SCOPE: "your own consent does not cover this; widen it first",
    RefusalCode.SCOPE_TOO_LARGE: "it was asked about too many messages at once",
    RefusalCode.UNKNOWN_EVIDENCE: "it has restarted, and forgotten everything; verify it again",
    RefusalCode.NEEDS_GENERATING_ENGINE: "its engine can choose and quote, and writes no texts of its own",
    RefusalCode.BUSY: "it is busy, and its answer would come too late; ask again in a while",
    RefusalCode.QUOTA: "you have asked more often than one member may; ask again later",
    RefusalCode.DRAINING: "it is about to stop; ask another one",
    RefusalCode.TOO_LATE: "your turn did not come within the time that you wait; ask again in a while",
    RefusalCode.CANCELLED: "the request was cancelled",
    RefusalCode.ENGINE_FAILED: "its engine failed; nothing was kept of the request",
    RefusalCode.NO_EVIDENCE: "its hardware gave no evidence; tell the operator",
    RefusalCode.MALFORMED: "it and this client do not understand each other; they may be of different versions",
}


class AssistantRefused(AssistantError):
    """The assistant answered that it will not; ``code`` says why, ``retry_after`` (seconds) when to ask again, if it helps."""

    def __init__(self, code: str, retry_after: float | None = None) -> None:
        advice = _ADVICE.get(code, "for a reason that this version does not know")
        super().__init__(f"the assistant refused: {advice}")
        self.code = code
        self.retry_after = retry_after
