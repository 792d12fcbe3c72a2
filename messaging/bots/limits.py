"""Every bound of the gateway, named once. Bytes and seconds, unless the name says otherwise."""

# --- requests ---
MAX_BODY = 1024 * 1024  # a body without files, and all fields of one with files together
MAX_FILE = 100 * 1024 * 1024  # one file that is sent, by default
MAX_FILES = 10  # files in one request
MAX_FIELDS = 64  # parameters of one request
MAX_DEPTH = 32  # arrays and objects in each other
MAX_PATH = 2048  # characters of path and query
MAX_REQUESTS = 100  # of one bot at the same time, those that wait for updates included
HEAD_SECONDS = 60  # for the head of a request, and between two requests
LINGER_SECONDS = 1  # in which the rest of a refused body is read and dropped, so that its sender hears why
BODY_SECONDS = 30  # for a body without files
FILE_SECONDS = 600  # for a body with files

# --- methods, where they have no number of Telegram's ---
MAX_TEXT = 16_384  # characters of a message (Telegram: 4,096)
MAX_CAPTION = MAX_TEXT
MAX_IDEMPOTENCY_KEY = 64  # characters
MAX_COMMANDS = 100  # of one list (Telegram)
MAX_COMMAND_LISTS = 50  # for other scopes and languages
MAX_SCOPE = 4  # members of a scope of commands (Telegram: 3)
MAX_NAME = 64  # characters of a bot's name (Telegram)
MAX_DESCRIPTION = 512  # characters (Telegram)
MAX_LISTED = 100  # parked events, tokens or updates in one answer (Telegram, of updates)
MAX_SUMMARIZED = 500  # messages that one summary may be of

# --- updates ---
MAX_POLL = 50  # for which getUpdates waits at most
MAX_OF_ONE_CHAT = 10  # events of one conversation in one answer: others have their turn too
PLAIN_LEASE = 3600  # for what a poller without a lease has been given: after that it may be given to another
MIN_LEASE, DEFAULT_LEASE, MAX_LEASE = 1, 60, 3600
MAX_CONSUMER = 64  # characters
MAX_CONSUMERS = 100  # of one bot at the same time
SOCKET_WINDOW = 100  # updates on one socket that are not confirmed
MAX_AHEAD = 2**31  # by which an offset may be beyond all numbers so far (Telegram's are within)
PLAIN_QUIET = 60  # for which nobody may have polled without a lease before what was given so is for those with one

# --- numbers that are kept; older ones are forgotten ---
MESSAGES_KEPT = 10_000  # of one chat
UPDATES_KEPT = 20_000  # of one bot
FILES_KEPT = 100_000  # of one bot
ONCE_KEPT = 100_000  # of one bot: what was said under idempotency keys

# --- webhooks ---
MAX_URL = 2048  # characters
MAX_SIGNING_SECRET = 128  # characters of a secret that a bot's owner chooses
MIN_SIGNING_BYTES, MAX_SIGNING_BYTES = 24, 64  # of what it says in base64 (Standard Webhooks)
MAX_SECRET_TOKEN = 256  # characters (Telegram)
DEFAULT_CONNECTIONS, MAX_CONNECTIONS = 40, 100  # requests to one target at the same time (Telegram)
CONNECT_SECONDS = 5
LOOKUP_SECONDS = 5  # for the addresses of a target's host
MAX_LOOKUPS = 4  # of them at the same time, for one target
WEBHOOK_SECONDS = 30  # for one delivery, connecting and the whole answer included
WEBHOOK_LEASE = 4 * WEBHOOK_SECONDS
MAX_ANSWER = 64 * 1024  # of a target's answer that is read
MAX_RETRY_AFTER = 3600  # that a target may ask for
FIRST_PAUSE, MAX_PAUSE = 1.0, 300.0  # before a target is tried again, doubled each time
MAX_OUTAGE = 24 * 3600  # after which failures of a target that answers nobody count against the event

# --- tokens ---
ROTATION_OVERLAP = 24 * 3600  # for which the old token stays valid
MAX_OVERLAP = 7 * 24 * 3600
MAX_TOKENS = 32  # of one bot
