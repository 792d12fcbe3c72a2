"""Every bound of the features: how much is read of what a stranger may write, and how much is said about it."""

# What is read. A longer text is cut there, and shown to be.
MAX_READ = 4096  # characters of one message
MAX_READ_IN_ALL = 2_000_000  # characters of one thread: a long thread reads less of each message ...
LEAST_READ = 1024  # ... but never less than this
MAX_UNITS_OF_A_MESSAGE = 20
MAX_UNITS = 4096  # of one thread, in equal shares for its senders
MAX_UNIT_WORDS = 32
MAX_UNIT_CHARACTERS = 480
MAX_WORD_CHARACTERS = 200  # what is longer is no word, and is shown as "…"
MAX_COMBINING = 4  # accents on one letter

# Names.
MAX_NAME = 40  # characters
MAX_NAME_WORDS = 4  # a longer one reads like a sentence, and is shown in quotes

# What is said.
MOST_LINES = 8  # of a summary
LEAST_LINES = 3  # of a summary of ``LEAST_LINES_FROM`` messages or more
LEAST_LINES_FROM = 10
MAX_LINE_CHARACTERS = 640  # of any line, its speaker's name included
BASE_WORDS, SHARE_OF_WORDS = 8, 0.15  # a summary's budget: so many words, and this share of the thread's
MAX_CANDIDATES = 120  # units that get vectors
MOST_KEPT = 2  # units of a message whose vectors are kept; each takes 768 bytes
MOST_LINES_OF_A_MESSAGE = 2
MOST_QUESTIONS = 10
MOST_ACTIONS = 20
ANSWERED_WITHIN = 3  # messages of others that may come between a question and the viewer's answer
ANSWER_LOOKED_FOR = 20  # messages after a question

MAX_READ_BY_WRITER = 60_000  # characters of a thread that an engine that writes is shown, the latest
MOST_CITES = 4  # of a line in an engine's own words
MAX_COMPOSED_TOKENS = 1024  # of a summary in an engine's own words

# Replies.
OWN_REPLY_WORDS = 8  # a longer message of the viewer's is not offered again
OWN_REPLIES = 50  # looked at, the latest
CONTEXT = 24  # messages, the latest, by which a reply is chosen
LOOK_BACK = 6  # messages of others, the latest, that a reply would be read as an answer to
LOOK_BACK_AT_THE_AUTHOR = 200  # messages, the latest, in which those of the author who is answered are read as well

# Labels.
LABEL_LETTERS = 4
MAX_LABELS = 100_000
