"""What went wrong while nobody was asking: kept until the application looks, in bounds, by type alone."""

from dataclasses import dataclass

from messaging.client.errors import IdentityChanged
from messaging.wire.identifiers import DeviceAddress

MAX_PROBLEMS = 100  # kept until the application reads them; the oldest go first


@dataclass(frozen=True, slots=True)
class Undecryptable:
    """Something arrived that cannot be read; it was acknowledged, or it would block what follows. ``reason`` is a type."""

    sender: DeviceAddress | None
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something that is done in the background did not work, and is tried again. ``reason`` is a type."""

    reason: str


Problem = Undecryptable | IdentityChanged | Failed


class Problems:
    """The problems since the last look, in the order in which they came.

    Anybody can cause problems of other kinds, as many as they like, and somebody has to act on a changed identity: those go last.
    """

    def __init__(self) -> None:
        self._kept: list[Problem] = []

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, problem: Problem) -> None:
        """Keep it; of too many the oldest goes. A failure that goes on is told once."""
        if isinstance(problem, Failed) and problem in self._kept:
            return
        self._kept.append(problem)
        if len(self._kept) > MAX_PROBLEMS:
            others = (each for each in self._kept if not isinstance(each, IdentityChanged))
            self._kept.remove(next(others, self._kept[0]))

    def note_identity(self, changed: IdentityChanged) -> None:
        """The same, once for each key of an account: many envelopes of one account must not push out all else."""
        known = [(each.service_id, each.identity_key) for each in self._kept if isinstance(each, IdentityChanged)]
        if (changed.service_id, changed.identity_key) not in known:
            self.note(changed)

    def take(self) -> list[Problem]:
        """All of them; they are not kept any more."""
        kept, self._kept = self._kept, []
        return kept
