"""What the console says of an assistant's evidence, and what it asks whoever can read some.

The relay's side reads no evidence: it would have to import ``attestation``. ``messaging.console.appraisal`` does, and is handed over
as a field of the desk.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Protocol

from messaging.relay.admin.limits import APPRAISAL_LASTS, MAX_APPRAISALS
from messaging.wire.json import Entity

_LASTS = APPRAISAL_LASTS // timedelta(milliseconds=1)


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

    ``verdict`` is ``accepted``, ``weakened`` (accepted under an unsafe exception), ``simulated`` (accepted, and protects nobody),
    ``refused``, ``not appraised`` (there is no policy) or ``unread``. ``tee``, ``release`` and ``measurement`` are what the evidence
    says: proved only by what stands in ``proved``.
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


class Appraisals:
    """What came of evidence a moment ago: lists are looked at again and again, and evidence of eight GPUs takes 50 ms of a processor."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[int, Appraised]] = {}

    async def of(self, appraise: Appraiser, shown: Shown, now: int) -> Appraised:
        """The appraisal of this, as of ``now`` or less than ``APPRAISAL_LASTS`` before."""
        # The first two have lengths of their own.
        key = sha256(shown.nonce + shown.identity_key + shown.bundle).digest()
        found = self._kept.get(key)
        if found is None or not 0 <= now - found[0] < _LASTS:
            found = (now, await asyncio.to_thread(appraise, shown, now))
            self._keep(key, found)
        return found[1]

    def _keep(self, key: bytes, found: tuple[int, Appraised]) -> None:
        self._kept.pop(key, None)
        self._kept[key] = found
        if len(self._kept) > MAX_APPRAISALS:
            del self._kept[next(iter(self._kept))]  # the oldest
