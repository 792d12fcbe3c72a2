"""What a command printed, without the log of the relays that run in the same process."""

import re

_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[\w+ *\].*\n", re.MULTILINE)


def without_log(text: str) -> str:
    """``text`` without lines of the log."""
    return _LOG_LINE.sub("", text)
