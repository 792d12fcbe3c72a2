"""A stand-in for Linux's configfs-tsm: replays recorded reports with the rules of drivers/virt/coco/guest/report.c."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from attestation.collecting.errors import OversizedAnswer

Report = Callable[[bytes], tuple[bytes, bytes]]
Interference = Callable[["Directory", str], None]


def failure(number: int) -> OSError:
    """The error that the system raises for this number."""
    return OSError(number, os.strerror(number))


def leave_alone(_directory: "Directory", _name: str) -> None:
    """Nobody else is there."""


@dataclass
class Kernel:
    """``report`` makes report and certificate table from the request; ``interfere`` comes before each read.

    ``floor`` is the lowest privilege level, for providers that have such; ``hidden`` are attributes that are not shown.
    """

    report: Report
    provider: bytes = b"sev_guest\n"
    floor: int | None = 0
    hidden: frozenset[str] = frozenset()
    interfere: Interference = leave_alone
    directories: list["Directory"] = field(default_factory=list)
    made: int = 0

    def create(self, _root: Path) -> "Directory":
        """What ``mkdir`` does below ``tsm/report``."""
        directory = Directory(self)
        self.directories.append(directory)
        self.made += 1
        return directory


@dataclass(eq=False)
class Directory:
    """One report directory: attributes that live."""

    kernel: Kernel
    generation: int = 0
    inblob: bytes = b""
    level: int = 0

    def read(self, name: str, limit: int) -> bytes:
        """Read an attribute."""
        self.kernel.interfere(self, name)
        if name in self.kernel.hidden:
            raise failure(errno.ENOENT)
        value = self._value(name)
        if len(value) > limit:
            raise OversizedAnswer(f"{name} has more than {limit} bytes")
        return value

    def write(self, name: str, value: bytes) -> None:
        """Write an attribute; each counts."""
        if name == "inblob":
            self.inblob = value
        elif name == "privlevel" and self.kernel.floor is not None:
            if int(value) < self.kernel.floor:
                raise failure(errno.EINVAL)
            self.level = int(value)
        else:
            raise failure(errno.ENOENT)
        self.generation += 1

    def remove(self) -> None:
        """Take the directory away."""
        self.kernel.directories.remove(self)

    def _value(self, name: str) -> bytes:
        match name:
            case "provider":
                return self.kernel.provider
            case "generation":
                return b"%d\n" % self.generation
            case "privlevel_floor" if self.kernel.floor is not None:
                return b"%d\n" % self.kernel.floor
            case "outblob" | "auxblob":
                if len(self.inblob) != 64 or self.level < (self.kernel.floor or 0):
                    raise failure(errno.EINVAL)
                return self.kernel.report(self.inblob)[name == "auxblob"]
        raise failure(errno.ENOENT)
