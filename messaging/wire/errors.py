"""What can be wrong with bytes from outside. An error names the field and the rule, never the bytes."""


class WireError(Exception):
    """Something received does not have the shape that the wire prescribes."""


class MalformedField(WireError):
    """One field is not what it has to be; ``field`` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__(f"malformed {field}")
        self.field = field


class MalformedFrame(WireError):
    """A WebSocket frame is not a request and not a response."""


class MalformedContent(WireError):
    """A decrypted plaintext is not padded content."""
