"""What can go wrong for an operator, and the HTTP status of each outcome. An error names the rule broken, never what broke it."""

from typing import ClassVar


class AdminError(Exception):
    """An outcome that the operator can act on; ``code`` is its name in the API, the message one sentence for people."""

    code: ClassVar[str]
    status: ClassVar[int]
    sentence: ClassVar[str]

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence or self.sentence)


class NotSignedIn(AdminError):
    """No sign-in or token, or one that has ended."""

    code, status, sentence = "not_signed_in", 401, "Sign in first."


class NotPermitted(AdminError):
    """The operator's role, or the token's scope, does not include this."""

    code, status, sentence = "not_permitted", 403, "Your role does not include this."


class NothingThere(AdminError):
    """What was named does not exist."""

    code, status, sentence = "not_found", 404, "There is nothing like that here."


class InvalidInput(AdminError):
    """A field that breaks its rule; ``fields`` names it."""

    code, status, sentence = "invalid", 422, "A field breaks its rule."

    def __init__(self, fields: tuple[str, ...] = (), sentence: str | None = None) -> None:
        super().__init__(sentence)
        self.fields = fields


class ReasonNeeded(AdminError):
    """A dangerous action without a reason."""

    code, status, sentence = "reason_needed", 422, "Say why: the reason stands in the audit log."


class SecondOperatorNeeded(AdminError):
    """The action waits for another operator; ``proposal`` names what waits."""

    code, status, sentence = "second_operator_needed", 202, "Another operator has to approve this."

    def __init__(self, proposal: int) -> None:
        super().__init__()
        self.proposal = proposal


class Conflict(AdminError):
    """It has changed meanwhile, or is done already."""

    code, status, sentence = "conflict", 409, "It has changed meanwhile. Look again."


class TooManyTries(AdminError):
    """Too many failed tries; later ones are not looked at."""

    code, status, sentence = "too_many_tries", 429, "Too many tries. Wait a minute."


class AuditBroken(AdminError):
    """The audit log is not what was written."""

    code, status, sentence = "audit_broken", 409, "The audit log is not what was written."
