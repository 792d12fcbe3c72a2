"""Hypothesis strategies for everything that is said in a ciphertext."""

from hypothesis.strategies import (
    SearchStrategy,
    binary,
    booleans,
    builds,
    dictionaries,
    frozensets,
    integers,
    just,
    lists,
    none,
    sampled_from,
    text,
    uuids,
)

from messaging.wire.answers import AnswerPart
from messaging.wire.assistant import (
    Actions,
    AssistantRequest,
    Cancel,
    ConsentReference,
    Coverage,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    Replies,
    Reply,
    RequestKind,
    Result,
    ResultKind,
    Rewrite,
    Rewritten,
    Scope,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
    SummaryLine,
)
from messaging.wire.consent import Consent, ConsentScope, SignedConsent
from messaging.wire.content import (
    AnswerFrame,
    AssistantCall,
    AttachmentPointer,
    ConsentUpdate,
    Content,
    ConversationUpdate,
    DataMessage,
    Deletion,
    DeliveryReceipt,
    Edit,
    ListedBot,
    Mention,
    ProfileKeyUpdate,
    ProfileUpdate,
    Quote,
    Reaction,
    ReadReceipt,
    Roster,
    Said,
    SenderKeyDistribution,
    SentTranscript,
    Told,
    Typing,
)
from messaging.wire.identifiers import IdentityKind, MessageId, ServiceId
from messaging.wire.limits import (
    ANSWER_BUCKETS,
    ATTACHMENT_SECRET,
    DIGEST,
    MASTER_KEY,
    MAX_CONSENT,
    MAX_DEADLINE,
    MAX_EMOJI,
    MAX_MEMBER_NAME,
    MAX_TIMESTAMP,
    MAX_TONE,
    MEMBER_TAG,
    NONCE,
    PROFILE_KEY,
    REQUEST_ID,
    SALT,
    SIGNATURE,
)


def _exactly(size: int) -> SearchStrategy[bytes]:
    return binary(min_size=size, max_size=size)


texts, data = text(max_size=20), binary(max_size=40)
times, counts = integers(0, MAX_TIMESTAMP), integers(0, 2**32 - 1)
keys, digests, request_ids = _exactly(MASTER_KEY), _exactly(DIGEST), _exactly(REQUEST_ID)
service_ids = builds(ServiceId, uuids(), sampled_from(IdentityKind))
message_ids = builds(MessageId, service_ids, times)

moments = integers(1, MAX_TIMESTAMP)
scopes_of_consent = frozensets(sampled_from(ConsentScope))
consents = builds(Consent, digests, service_ids, moments, booleans(), scopes_of_consent, none() | moments)
signed_consents = builds(SignedConsent, binary(max_size=MAX_CONSENT), _exactly(SIGNATURE))

scopes = builds(
    Scope,
    keys,
    lists(message_ids, max_size=4, unique=True).map(sorted).map(tuple),
    counts,
    counts,
    dictionaries(service_ids, text(min_size=1, max_size=MAX_MEMBER_NAME), max_size=3),
)
request_kinds: SearchStrategy[RequestKind] = (
    builds(EvidenceRequest, _exactly(NONCE))
    | builds(Summarize, scopes)
    | builds(SuggestReplies, scopes, counts)
    | builds(QuestionsForMe, scopes)
    | builds(Actions, scopes)
    | builds(Rewrite, texts, text(max_size=MAX_TONE))
    | builds(Forget, none() | keys)
    | builds(Forget, keys, just(True))
    | builds(StatusRequest, none() | keys)
    | builds(Cancel, request_ids)
)
requests = builds(AssistantRequest, request_ids, request_kinds, none() | digests, integers(0, MAX_DEADLINE))

coverages = builds(Coverage, counts, counts, counts, counts)
lines = builds(
    SummaryLine,
    texts,
    texts,
    lists(message_ids, min_size=1, max_size=3).map(tuple),
    none() | service_ids,
    lists(texts, max_size=2).map(tuple),
)
result_kinds: SearchStrategy[ResultKind] = (
    builds(Evidence, data, data)
    | builds(Summary, lists(lines, max_size=3).map(tuple), coverages)
    | builds(Replies, lists(builds(Reply, texts, texts), max_size=3).map(tuple), coverages)
    | builds(Rewritten, texts)
    | builds(Forgotten, counts)
    | builds(Status, texts, times, counts, counts, booleans(), counts, counts, frozensets(service_ids, max_size=3))
    | builds(Refusal, texts, none() | counts)
)
references = lists(builds(ConsentReference, service_ids, digests), max_size=3, unique=True)
results = builds(
    Result,
    kind=result_kinds,
    salt=_exactly(SALT),
    engine=texts,
    model=digests,
    instructions=digests,
    consents=references.map(sorted).map(tuple),
)
answers = builds(
    lambda written, last: [*(AnswerPart(text) for text in written), last],
    lists(texts, max_size=5),
    builds(AnswerPart, texts, binary(max_size=40_000), none() | data),
)

accounts = builds(ServiceId, uuids())
said_messages = builds(MessageId, accounts, times)
pointers = builds(
    AttachmentPointer,
    counts,
    texts,
    _exactly(ATTACHMENT_SECRET),
    digests,
    counts,
    texts,
    texts,
)
quotes = builds(Quote, said_messages, texts)
mentions = builds(Mention, counts, counts, accounts)
messages = builds(DataMessage, texts, times, none() | keys) | builds(
    DataMessage,
    texts,
    times,
    keys,
    keys,
    none() | quotes,
    lists(pointers, max_size=2).map(tuple),
    lists(mentions, max_size=2).map(tuple),
    counts,
)
reactions = builds(
    Reaction, text(min_size=1, max_size=MAX_EMOJI), said_messages, times, none() | keys, booleans()
) | builds(Reaction, just(""), said_messages, times, keys, just(True))
said: SearchStrategy[Said] = (
    messages | builds(Edit, times, messages) | reactions | builds(Deletion, times, times, none() | keys)
)
conversations = builds(
    ConversationUpdate,
    keys,
    texts,
    lists(service_ids, max_size=3).map(tuple),
    counts,
    lists(service_ids, max_size=2).map(tuple),
    lists(builds(ListedBot, service_ids, booleans()), max_size=2).map(tuple),
    counts,
)
consent_updates = builds(ConsentUpdate, keys, signed_consents, none() | service_ids)
rosters = builds(Roster, keys, counts, frozensets(_exactly(MEMBER_TAG), max_size=3))
frames = builds(AnswerFrame, request_ids, integers(0, ANSWER_BUCKETS[-1] - 1), booleans(), data)
contents: SearchStrategy[Content] = (
    said
    | builds(ProfileKeyUpdate, _exactly(PROFILE_KEY))
    | builds(SenderKeyDistribution, data)
    | builds(DeliveryReceipt, lists(times, max_size=3).map(tuple))
    | builds(ReadReceipt, lists(times, max_size=3).map(tuple))
    | builds(Typing, booleans(), times, none() | digests)
    | builds(ProfileUpdate, texts, texts, times)
    | conversations
    | consent_updates
    | rosters
    | builds(SentTranscript, said)
    | builds(Told, service_ids, conversations | consent_updates)
    | builds(AssistantCall, requests.map(AssistantRequest.encode))
    | frames
)


def broken(encodings: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Bytes from anywhere, and real ones with a byte changed, cut off, put in or said twice."""
    changed = builds(_change, encodings, integers(0, 2**16), binary(max_size=3), integers(0, 3))
    return binary(max_size=200) | changed | encodings.map(lambda encoded: encoded * 2)


def _change(encoded: bytes, at: int, put: bytes, cut: int) -> bytes:
    at %= len(encoded) + 1
    return encoded[:at] + put + encoded[at + cut :]
