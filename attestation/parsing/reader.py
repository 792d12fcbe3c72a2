"""A cursor over bytes that came from outside: it refuses to read past the end, and says when something is left over."""

from attestation.errors import MalformedEvidence


class Reader:
    """Reads ``data`` from the front. ``what`` names the structure in errors."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self.position = 0

    @property
    def left(self) -> int:
        """How many bytes are unread."""
        return len(self._data) - self.position

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            MalformedEvidence: there are fewer.
        """
        if count > self.left:
            raise MalformedEvidence(f"the {self._what} ends too early")
        self.position += count
        return self._data[self.position - count : self.position]

    def little(self, count: int) -> int:
        """The next ``count`` bytes as an unsigned number, least significant byte first.

        Raises:
            MalformedEvidence: there are fewer.
        """
        return int.from_bytes(self.take(count), "little")

    def big(self, count: int) -> int:
        """The next ``count`` bytes as an unsigned number, most significant byte first.

        Raises:
            MalformedEvidence: there are fewer.
        """
        return int.from_bytes(self.take(count), "big")

    def expect(self, wanted: bytes, name: str) -> None:
        """Read exactly ``wanted``.

        Raises:
            MalformedEvidence: something else is there.
        """
        if self.take(len(wanted)) != wanted:
            raise MalformedEvidence(f"the {name} of the {self._what} is wrong")

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            MalformedEvidence: there are bytes behind the structure.
        """
        if self.left:
            raise MalformedEvidence(f"there are bytes behind the {self._what}")
