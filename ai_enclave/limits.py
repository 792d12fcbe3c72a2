"""Every bound of the enclave, named once: what it keeps, and how much work it takes on."""

from datetime import timedelta

MAX_MESSAGES = 500  # kept in one conversation; the oldest go first
MAX_AGE = timedelta(hours=24)  # since the enclave received a message
MAX_CONVERSATIONS = 1000  # the one that was silent longest goes first
MAX_BYTES = 64 * 1024 * 1024  # UTF-8 of all texts; conversations that were silent longest go first
MAX_SCOPE = 2000  # messages that one request may name
MAX_NAME = 64  # characters of a display name; the rest is cut
MAX_REPLIES = 5  # suggestions in one answer
MAX_PENDING = 32  # requests waiting for the engine; one more is answered "busy"
MAX_PROVING = 16  # requests for evidence waiting for the hardware; one more is answered "busy"
COLLATERAL_REFRESH = timedelta(hours=3)  # between two looks at the vendors for what is stapled to evidence
COLLATERAL_SECONDS = 90.0  # for all that one look asks for
COLLATERAL_FIRST_RETRY = 60.0  # seconds after a look that failed; doubled each time, at most COLLATERAL_REFRESH
