"""Every bound of the admin side: sizes, counts, times."""

from datetime import timedelta
from typing import Final

MAX_REASON: Final = 500  # characters
MAX_NAME: Final = 64  # characters, of an operator, a token, a passkey
PAGE: Final = 50  # rows of a list
MAX_PAGE: Final = 200
PROPOSAL_LIFETIME: Final = timedelta(hours=24)  # then nobody can approve it any more
MAX_PROPOSALS: Final = 100  # that wait
IDLE: Final = timedelta(minutes=30)  # then an operator has to sign in again
ABSOLUTE: Final = timedelta(hours=12)  # the same, whatever they do
CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
ENROLMENT_LIFETIME: Final = timedelta(hours=24)
MAX_SIGN_INS: Final = 10  # of one operator; the oldest ends
MAX_PASSKEYS: Final = 10  # of one operator
RECOVERY_CODES: Final = 10
MAX_TOKENS: Final = 20  # of one operator
MAX_TOKEN_LIFETIME: Final = timedelta(days=365)
MAX_OPERATORS: Final = 1000
SIGN_IN_TRIES: Final = 10  # of one address, and of one operator, in a minute
MAX_BODY: Final = 256 * 1024  # bytes of a request
MAX_EXPORT: Final = 1_000_000  # entries of an audit export
