"""The steps of an appraisal, each with its outcome, so that a refusal can be explained and an acceptance counted.

A failed step does not end the appraisal: whoever has to mend a machine wants to hear of all its faults at once. It ends only
what rests on it (``require``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from attestation.errors import AttestationError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One check: of what, what was checked in plain words, and the refusal if there was one.

    ``detail`` tells what was found. With ``last`` the checks that rest on this one could not be made.
    """

    subject: str
    statement: str
    error: AttestationError | None = None
    detail: str = ""
    last: bool = False


class _Stopped(Exception):
    """A required step failed: what rests on it is skipped."""


class Trail:
    """Collects steps. ``within`` says whose they are."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._subject = ""

    def within(self, subject: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call ``function``, whose steps are of ``subject``; a failed ``require`` in it ends it, and nothing else: ``None``."""
        before, self._subject = self._subject, subject
        try:
            return function(*args, **kwargs)
        except _Stopped:
            return None
        finally:
            self._subject = before

    def check(self, statement: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Note whether ``function`` raises; returns its result, or ``None`` if it was refused."""
        try:
            return self._made(statement, function(*args, **kwargs))
        except AttestationError as error:
            self.steps.append(Step(self._subject, statement, error))
            return None

    def holds(self, statement: str, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As ``check``, for what returns nothing: whether it was passed."""
        self.check(statement, function, *args, **kwargs)
        return self.steps[-1].error is None

    def require(self, statement: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``check``, but what comes after in this block rests on it, and is skipped if it was refused."""
        try:
            return self._made(statement, function(*args, **kwargs))
        except AttestationError as error:
            self.steps.append(Step(self._subject, statement, error, last=True))
            raise _Stopped from None

    def _made(self, statement: str, result: T) -> T:
        """A check that returns text tells what it found."""
        self.steps.append(Step(self._subject, statement, detail=result if isinstance(result, str) else ""))
        return result
