"""Every bound of the enclave, named once: what it keeps, and how much work it takes on."""

from datetime import timedelta

MAX_MESSAGES = 500  # kept in one conversation; of the author who has most the oldest goes first
MAX_AGE = timedelta(hours=24)  # since the enclave received a message; shorter if that is to be deleted sooner
MAX_CONVERSATIONS = 1000  # of who opened most the one that was silent longest goes first
MAX_CONVERSATIONS_OF_AUTHOR = 100  # of which an author said something; where they were silent longest they leave first
MAX_DELETIONS = 500  # of one author in one conversation, remembered one by one; the oldest give way, and all up to them counts as deleted
MAX_STATEMENTS = 8  # of one author in one conversation; the oldest go first, with what was written under them
MAX_CONSENT_AHEAD = timedelta(minutes=1)  # of our clock; a statement dated later allows nothing before its time
MAX_BYTES = 256 * 1024 * 1024  # all that is held, as counted here; of who takes most the oldest message goes first
MAX_BYTES_OF_AUTHOR = 4 * 1024 * 1024  # the same, of one author; their oldest messages go first
MESSAGE_BYTES = 2048  # what a message is counted as, beside its text: its vectors are most of that
STATEMENT_BYTES = 1024  # what a statement is counted as
TAG_BYTES = 96  # what one member in a roster is counted as
DELETION_BYTES = 160  # what a deletion that is remembered is counted as
FORGET_SECONDS = 30  # between two looks for what is too old; requests look for themselves
MAX_REPLIES = 5  # suggestions in one answer
MAX_WRITTEN = 16 * 1024  # bytes of UTF-8 of a rewritten draft: twice what the draft may have
MAX_PENDING = 32  # requests waiting for the engine, and as many for the hardware; one more is answered "busy"
MAX_ISSUED = 8  # evidence documents of one account that a request may rely on; the oldest go first
MAX_ACCOUNTS = 10_000  # accounts whose evidence is remembered; the one that asked longest ago goes first
ANSWER_GRID = 0.05  # seconds: an answer leaves at a multiple of this after its request came
STREAM_PACE = 0.25  # seconds between frames of a stream, whether there is new text or not
CALLS_BURST = 40  # requests of any kind of one sender at once, after a rest; what is beyond gets no answer
SECONDS_PER_CALL = 1.0  # until one of these refills
CALLS_OF_SENDER = 24  # of one sender at a time: REQUESTS_BURST and a few; what is beyond gets no answer
MAX_CALLS = 512  # of all senders at a time; what is beyond gets no answer
MAX_CONCURRENT = 128  # requests being worked on, about half of which both desks can hold for long; the others wait
MAX_CONCURRENT_OF_SENDER = 8  # of these of one sender: what both desks take of a user, and two more
DRAIN_SECONDS = 20.0  # for finishing what was accepted before the end
MAX_WRITING = 16  # requests at an engine that writes at a time: it works on all of them together
MAX_QUEUED_PER_USER = 2  # requests of one user waiting for the engine, beside the one in service
REQUESTS_PER_HOUR = 120  # of one user, in the long run; each refills after 30 s
REQUESTS_BURST = 20  # of one user at once, after a rest
FIRST_SERVICE_SECONDS = 1.0  # what one request is taken to need before any was measured
MIN_RETRY_SECONDS = 1.0  # nobody is told to come back sooner
REPORT_EVERY = 600.0  # seconds between two reports to the relay
REPORT_SECONDS = 60.0  # for one report, the hardware's evidence included
LAST_REPORT_SECONDS = 3.0  # for the one of an enclave that drains: it ends all the same
COLLATERAL_REFRESH = timedelta(hours=3)  # between two looks at the vendors for what is stapled to evidence
COLLATERAL_SECONDS = 90.0  # for all that one look asks for
COLLATERAL_FIRST_RETRY = 60.0  # seconds after a look that failed; doubled each time, at most COLLATERAL_REFRESH
