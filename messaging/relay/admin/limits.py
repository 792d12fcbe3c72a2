"""Every bound of the admin side: sizes, counts, times."""

from datetime import timedelta
from typing import Final

MAX_REASON: Final = 500  # characters
MAX_NAME: Final = 64  # characters, of an operator, a token, a passkey
PAGE: Final = 50  # rows of a list
MAX_PAGE: Final = 200
PROPOSAL_LIFETIME: Final = timedelta(hours=24)  # then nobody can approve it any more
PROPOSAL_KEPT: Final = timedelta(days=30)  # after that; what was decided stands in the audit log
MAX_PROPOSALS: Final = 100  # that wait
MAX_OWN_PROPOSALS: Final = 10  # the same, of one operator
MAX_NAMED: Final = 64  # names in a list of permissions or actions
MAX_GIVEN: Final = 16 * 1024  # bytes of an action's parameters that go into the audit log
IDLE: Final = timedelta(minutes=30)  # then an operator has to sign in again
ABSOLUTE: Final = timedelta(hours=12)  # the same, whatever they do
RECOVERY: Final = timedelta(minutes=15)  # the same, for who came with a recovery code
FRESH: Final = timedelta(minutes=15)  # for so long after signing in an operator may change what they sign in with
SEEN_STEP: Final = timedelta(minutes=1)  # how exactly it is kept when an operator was seen
CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
ENROLMENT_LIFETIME: Final = timedelta(hours=24)
MAX_SIGN_INS: Final = 10  # of one operator; the oldest ends
MAX_PASSKEYS: Final = 10  # of one operator
RECOVERY_CODES: Final = 10
MAX_TOKENS: Final = 20  # of one operator
MAX_TOKEN_LIFETIME: Final = timedelta(days=365)
MAX_OPERATORS: Final = 1000
SIGN_IN_TRIES: Final = 10  # of one address, and of one operator, in a minute
BEGINNINGS: Final = 60  # ceremonies that one address may begin in a minute
SECOND_FACTOR_TRIES: Final = 10  # wrong ones in a day, of somebody with a good recovery code
MAX_BODY: Final = 256 * 1024  # bytes of a request
MAX_EXPORT: Final = 1_000_000  # entries of an audit export
MIN_EXPORT_PAGE: Final = 2  # entries: to read a page adds one, and who goes on is to come to the end
EXPORTS_AT_ONCE: Final = 1  # of one operator
API_CALLS: Final = 600  # of one token, or of one operator without a token, in a minute
MAX_COUNTED: Final = 1000  # rows that are counted for one line of a page; what is more is said to be more
MAX_REPORTS_READ: Final = 50_000  # reports of abuse that a list is made of, the latest
MAX_PARKED_AT_ONCE: Final = 1000  # envelopes that one action queues again or drops
MAX_APPRAISALS: Final = 1000  # that are kept in memory for lists
APPRAISAL_LASTS: Final = timedelta(minutes=1)  # in a list; who looks at one assistant has its evidence appraised anew
MAX_VERSIONS: Final = 50  # of a setting that are listed
MAX_CONFIG_NAMES: Final = 200  # that operators set
MAX_CONFIG_ACCOUNTS: Final = 1000  # that always have a value
