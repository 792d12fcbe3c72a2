"""What the console says of an assistant's evidence, and what it asks whoever can read some.

The relay's side reads no evidence: it would have to import ``attestation``. ``messaging.console.appraisal`` does, and is handed over
as a field of the desk.
"""

from dataclasses import dataclass, field
from typing import Protocol

from messaging.wire.json import Entity


@dataclass(frozen=True, slots=True)
class Shown:
    """Evidence as it was reported: a deflated bundle, the nonce of the relay's that it answers, and the account's identity key."""

    bundle: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    identity_key: bytes = field(repr=False)


class EvidenceStep(Entity):
    """One check: of what, what was checked, and what came of it. ``why`` and ``means`` are there if it failed."""

    about: str
    statement: str
    passed: bool
    found: str = ""
    why: str = ""
    means: str = ""


class NotProvedItem(Entity):
    """Something that even accepted evidence does not show."""

    what: str
    why: str


class Appraised(Entity):
    """What came of an appraisal.

    ``verdict`` is ``accepted``, ``weakened`` (accepted under an unsafe exception), ``simulated`` (accepted, and protects nobody), ``refused``, ``not appraised`` (there is no policy) or
    ``unread``. ``tee``, ``release`` and ``measurement`` are what the evidence says: proved only by what stands in ``proved``.
    """

    verdict: str
    notice: str
    simulated: bool = False
    tee: str = ""
    release: str = ""
    measurement: str = ""
    policy: str = ""
    weakened_by: tuple[str, ...] = ()
    proved: tuple[str, ...] = ()
    not_proved: tuple[NotProvedItem, ...] = ()
    steps: tuple[EvidenceStep, ...] = ()


class Appraiser(Protocol):
    """Reads evidence, and judges it by the operator's policy."""

    def __call__(self, shown: Shown, now: int) -> Appraised:
        """Judge evidence as of ``now``, in milliseconds since 1970. It may take a moment of a processor's time; it never raises."""

    def accepts(self, measurement: bytes) -> bool | None:
        """Whether the policy lists code of this measurement; ``None`` without a policy."""
