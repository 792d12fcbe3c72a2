"""Content comes back from its padded bytes, and shows its length only in steps or buckets."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
from google.protobuf.message import Message
from hypothesis import given

from messaging.wire.assistant import AssistantRequest, Rewrite
from messaging.wire.consent import SignedConsent, member_tag
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
    Roster,
    SenderKeyDistribution,
    SentTranscript,
    Told,
    Typing,
    Unsupported,
    decode_content,
    encode_content,
)
from messaging.wire.errors import MalformedContent
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import (
    ANSWER_BUCKETS,
    CONTENT_BLOCK,
    DIGEST,
    FRAME,
    FRAME_DATA,
    MASTER_KEY,
    MAX_BOTS,
    MAX_CONSENT,
    MAX_CONTENT,
    MAX_CONVERSATION_MEMBERS,
    MAX_EXPIRES_IN,
    MAX_PROFILE_ABOUT,
    MAX_PROFILE_NAME,
    MAX_REQUEST,
    MAX_REVISION,
    MAX_TIMESTAMP,
    MEMBER_TAG,
    PROFILE_KEY,
    REQUEST_BUCKETS,
    REQUEST_ID,
    SIGNATURE,
)
from messaging.wire.padding import pad
from messaging.wire.protobuf import content_pb2 as pb
from tests.messaging.wire.strategies import broken, contents, frames, requests, rosters

IDENTITY = bytes(33)
KEY, ID = bytes(MASTER_KEY), bytes(REQUEST_ID)
CANARY = "CANARY"


def read(content: pb.Content) -> Content:
    return decode_content(pad(content.SerializeToString()))


def members(count: int) -> list[ServiceId]:
    return [ServiceId(UUID(int=number)) for number in range(count)]


@given(content=contents)
def test_decode_undoes_encode(content: Content) -> None:
    assert decode_content(encode_content(content)) == content


@given(plaintext=broken(contents.map(encode_content)))
def test_other_bytes_are_content_or_malformed(plaintext: bytes) -> None:
    with suppress(MalformedContent):
        assert decode_content(plaintext) is not None


@given(plaintext=broken(contents.map(encode_content)).map(lambda each: pad(each.rstrip(b"\x00")[:-1])))
def test_other_bytes_that_are_padded_are_content_or_malformed(plaintext: bytes) -> None:
    with suppress(MalformedContent):
        assert decode_content(plaintext) is not None


def test_content_of_a_newer_version_is_unsupported_and_nobody_sends_it() -> None:
    newer = b"\xfa\x7f\x00"  # field 2047
    assert decode_content(pad(b"")) == decode_content(pad(newer)) == Unsupported()
    with pytest.raises(ValueError, match="unsupported"):
        encode_content(Unsupported())


@pytest.mark.parametrize(
    "content",
    [
        pb.Content(data_message=pb.DataMessage(timestamp=1)),
        pb.Content(data_message=pb.DataMessage(timestamp=1, quote=pb.DataMessage.Quote(id=1), expire_timer=1)),
        pb.Content(edit_message=pb.EditMessage(target_sent_timestamp=1)),
        pb.Content(edit_message=pb.EditMessage(target_sent_timestamp=1, data_message=pb.DataMessage(timestamp=2))),
        pb.Content(
            edit_message=pb.EditMessage(
                data_message=pb.DataMessage(body="x", delete=pb.DataMessage.Delete(target_sent_timestamp=1))
            )
        ),
        pb.Content(receipt_message=pb.ReceiptMessage(type=pb.ReceiptMessage.VIEWED, timestamp=[1])),
        pb.Content(receipt_message=pb.ReceiptMessage(timestamp=[1])),
        pb.Content(typing_message=pb.TypingMessage(timestamp=1)),
        pb.Content(sync_message=pb.SyncMessage()),
        pb.Content(sync_message=pb.SyncMessage(sent=pb.SyncMessage.Sent())),
        pb.Content(sync_message=pb.SyncMessage(sent=pb.SyncMessage.Sent(edit_message=pb.EditMessage()))),
        pb.Content(sync_message=pb.SyncMessage(told=pb.SyncMessage.Told(author=bytes(16)))),
    ],
    ids=[
        "no body",
        "a quote and no body",
        "an edit of nothing",
        "an edit without a body",
        "an edit that is a deletion",
        "a receipt of viewing",
        "a receipt of a newer type",
        "typing of a newer kind",
        "an empty sync",
        "nothing sent",
        "an edit of nothing sent",
        "nothing told",
    ],
)
def test_what_this_version_has_no_use_for_is_unsupported(content: pb.Content) -> None:
    assert read(content) == Unsupported()


# --- sizes ---


@given(request=requests)
def test_a_request_has_the_length_of_a_bucket(request: AssistantRequest) -> None:
    assert len(encode_content(AssistantCall(request.encode()))) in REQUEST_BUCKETS


@given(roster=rosters)
def test_a_roster_looks_like_a_request(roster: Roster) -> None:
    assert len(encode_content(roster)) in REQUEST_BUCKETS


@given(frame=frames)
def test_a_frame_has_the_length_of_all_frames(frame: AnswerFrame) -> None:
    assert len(encode_content(frame)) == FRAME


@given(content=contents.filter(lambda each: not isinstance(each, AssistantCall | Roster | AnswerFrame)))
def test_other_content_shows_its_length_in_steps(content: Content) -> None:
    assert (len(encode_content(content)) + 1) % CONTENT_BLOCK == 0


def test_a_roster_of_all_members_fits_the_first_bucket() -> None:
    tags = frozenset(member_tag(KEY, member, IDENTITY) for member in members(MAX_CONVERSATION_MEMBERS))
    roster = Roster(KEY, 2**32 - 1, tags)
    encoded = encode_content(roster)
    assert len(tags) == MAX_CONVERSATION_MEMBERS
    assert len(encoded) == REQUEST_BUCKETS[0]
    assert decode_content(encoded) == roster


def test_the_largest_request_fits_the_last_bucket_and_a_larger_one_is_not_sent() -> None:
    encoded = encode_content(AssistantCall(bytes(MAX_REQUEST)))
    assert len(encoded) == REQUEST_BUCKETS[-1] < MAX_CONTENT
    with pytest.raises(ValueError, match="too large"):
        encode_content(AssistantCall(bytes(MAX_REQUEST + 1)))


def test_the_largest_frame_fits_and_a_larger_one_is_not_sent() -> None:
    largest = AnswerFrame(b"\xff" * REQUEST_ID, ANSWER_BUCKETS[-1] - 1, True, b"\x80" * FRAME_DATA)
    assert decode_content(encode_content(largest)) == largest
    for beyond in (
        replace(largest, data=largest.data + b"!"),
        replace(largest, index=ANSWER_BUCKETS[-1]),
        replace(largest, request_id=bytes(FRAME)),
    ):
        with pytest.raises(ValueError, match="too"):
            encode_content(beyond)


def test_a_conversation_of_all_members_fits_into_one_message() -> None:
    everybody = tuple(members(MAX_CONVERSATION_MEMBERS))
    bots = tuple(ListedBot(member, reads_all=True) for member in everybody[:MAX_BOTS])
    update = ConversationUpdate(KEY, "t" * 1000, everybody, MAX_REVISION, everybody, bots, MAX_EXPIRES_IN)
    encoded = encode_content(update)
    assert len(encoded) < MAX_CONTENT
    assert decode_content(encoded) == update


# --- shapes ---


def _message(**fields: object) -> pb.Content:
    return pb.Content(data_message=pb.DataMessage(**{"body": "x", "timestamp": 1, **fields}))  # type: ignore[arg-type]


def _group(key: bytes) -> pb.Content:
    return _message(group_v2=pb.GroupContextV2(master_key=key))


def _profile(key: bytes) -> pb.Content:
    return pb.Content(data_message=pb.DataMessage(flags=pb.DataMessage.PROFILE_KEY_UPDATE, profile_key=key))


def _conversation(key: bytes = KEY, member: bytes = bytes(16)) -> pb.ConversationUpdate:
    return pb.ConversationUpdate(master_key=key, members=[member])


def _consent(
    key: bytes = KEY, statement: bytes = b"", signature: bytes = bytes(SIGNATURE), assistant: bytes = bytes(16)
) -> pb.ConsentUpdate:
    return pb.ConsentUpdate(master_key=key, statement=statement, signature=signature, assistant=assistant)


def _told(author: bytes, update: Message) -> pb.Content:
    told = pb.SyncMessage.Told(author=author)
    if isinstance(update, pb.ConversationUpdate):
        told.conversation_update.CopyFrom(update)
    elif isinstance(update, pb.ConsentUpdate):
        told.consent_update.CopyFrom(update)
    return pb.Content(sync_message=pb.SyncMessage(told=told))


def _roster(key: bytes = KEY, tags: bytes = b"") -> pb.Content:
    return pb.Content(roster=pb.Roster(master_key=key, tags=tags))


def _frame(request_id: bytes = ID, index: int = 0, data: bytes = b"") -> pb.Content:
    return pb.Content(answer_frame=pb.AnswerFrame(request_id=request_id, index=index, data=data))


def _typing(timestamp: int = 1, group_id: bytes = bytes(DIGEST)) -> pb.Content:
    action = pb.TypingMessage.STARTED
    return pb.Content(typing_message=pb.TypingMessage(timestamp=timestamp, action=action, group_id=group_id))


SIZED: dict[str, tuple[Callable[[bytes], pb.Content], int]] = {
    "profile key": (_profile, PROFILE_KEY),
    "key of a message": (_group, MASTER_KEY),
    "roster of a message": (lambda roster: _message(group_v2=pb.GroupContextV2(master_key=KEY, roster=roster)), DIGEST),
    "key of a conversation": (lambda key: pb.Content(conversation_update=_conversation(key)), MASTER_KEY),
    "member": (lambda member: pb.Content(conversation_update=_conversation(member=member)), 16),
    "admin": (lambda admin: pb.Content(conversation_update=pb.ConversationUpdate(master_key=KEY, admins=[admin])), 16),
    "bot": (
        lambda bot: pb.Content(
            conversation_update=pb.ConversationUpdate(master_key=KEY, bots=[pb.ConversationUpdate.Bot(service_id=bot)])
        ),
        16,
    ),
    "conversation of typing": (lambda group: _typing(group_id=group), DIGEST),
    "key of a consent": (lambda key: pb.Content(consent_update=_consent(key)), MASTER_KEY),
    "signature": (lambda signature: pb.Content(consent_update=_consent(signature=signature)), SIGNATURE),
    "assistant": (lambda assistant: pb.Content(consent_update=_consent(assistant=assistant)), 16),
    "key of a roster": (lambda key: _roster(key), MASTER_KEY),
    "request id of a frame": (lambda request_id: _frame(request_id), REQUEST_ID),
    "author of what is told": (lambda author: _told(author, _conversation()), 16),
    "key of a told conversation": (lambda key: _told(bytes(16), _conversation(key)), MASTER_KEY),
    "key of a told consent": (lambda key: _told(bytes(16), _consent(key)), MASTER_KEY),
}


@pytest.mark.parametrize("field", SIZED)
def test_a_field_of_another_size_is_malformed(field: str) -> None:
    make, size = SIZED[field]
    assert read(make(bytes(size))) != Unsupported()
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(MalformedContent):
            read(make(bytes(wrong)))


LIMITED: dict[str, tuple[Callable[[int], pb.Content], int]] = {
    "timestamp": (lambda time: _message(timestamp=time), MAX_TIMESTAMP),
    "timestamp of a receipt": (
        lambda time: pb.Content(receipt_message=pb.ReceiptMessage(type=pb.ReceiptMessage.READ, timestamp=[1, time])),
        MAX_TIMESTAMP,
    ),
    "timestamp of what was sent": (
        lambda time: pb.Content(
            sync_message=pb.SyncMessage(sent=pb.SyncMessage.Sent(message=_message(timestamp=time).data_message))
        ),
        MAX_TIMESTAMP,
    ),
    "timestamp of typing": (lambda time: _typing(timestamp=time), MAX_TIMESTAMP),
    "timestamp of a profile": (
        lambda time: pb.Content(profile_update=pb.ProfileUpdate(timestamp=time)),
        MAX_TIMESTAMP,
    ),
    "characters of a name": (
        lambda size: pb.Content(profile_update=pb.ProfileUpdate(name="é" * size)),
        MAX_PROFILE_NAME,
    ),
    "characters about somebody": (
        lambda size: pb.Content(profile_update=pb.ProfileUpdate(about="é" * size)),
        MAX_PROFILE_ABOUT,
    ),
    "bytes of a statement": (lambda size: pb.Content(consent_update=_consent(statement=bytes(size))), MAX_CONSENT),
    "members": (
        lambda count: pb.Content(
            conversation_update=pb.ConversationUpdate(master_key=KEY, members=[bytes(16)] * count)
        ),
        MAX_CONVERSATION_MEMBERS,
    ),
    "admins": (
        lambda count: pb.Content(conversation_update=pb.ConversationUpdate(master_key=KEY, admins=[bytes(16)] * count)),
        MAX_CONVERSATION_MEMBERS,
    ),
    "bots": (
        lambda count: pb.Content(
            conversation_update=pb.ConversationUpdate(
                master_key=KEY, bots=[pb.ConversationUpdate.Bot(service_id=bytes(16))] * count
            )
        ),
        MAX_BOTS,
    ),
    "revision": (
        lambda revision: pb.Content(conversation_update=pb.ConversationUpdate(master_key=KEY, revision=revision)),
        MAX_REVISION,
    ),
    "tags": (lambda count: _roster(tags=bytes(MEMBER_TAG * count)), MAX_CONVERSATION_MEMBERS),
    "index of a frame": (lambda index: _frame(index=index), ANSWER_BUCKETS[-1] - 1),
    "data of a frame": (lambda size: _frame(data=bytes(size)), FRAME_DATA),
}


@pytest.mark.parametrize("field", LIMITED)
def test_a_limit_is_kept_and_not_passed(field: str) -> None:
    make, limit = LIMITED[field]
    assert read(make(limit)) != Unsupported()
    with pytest.raises(MalformedContent):
        read(make(limit + 1))


@pytest.mark.parametrize("size", [1, MEMBER_TAG - 1, MEMBER_TAG + 1])
def test_tags_that_are_not_whole_are_malformed(size: int) -> None:
    with pytest.raises(MalformedContent):
        read(_roster(tags=bytes(size)))


def test_the_tags_of_a_roster_travel_sorted_so_that_their_order_tells_nothing() -> None:
    tags = [member_tag(KEY, member, IDENTITY) for member in members(10)]
    encoded = encode_content(Roster(KEY, 1, frozenset(tags)))
    assert b"".join(sorted(tags)) in encoded


# --- silence ---


def test_what_people_wrote_and_what_is_secret_has_no_repr() -> None:
    secret, author = CANARY.encode(), ServiceId(UUID(int=1))
    named = MessageId(author, 1)
    pointer = AttachmentPointer(3, CANARY, secret, secret, 1, CANARY, CANARY)
    message = DataMessage(CANARY, 1, secret, secret, Quote(named, CANARY), (pointer,), (Mention(0, 1, author),))
    consent = ConsentUpdate(secret, SignedConsent(secret, secret))
    shown: list[Content] = [
        message,
        SentTranscript(message),
        Edit(1, message),
        Reaction(CANARY, named, 1, secret),
        Deletion(1, 1, secret),
        Typing(True, 1, secret),
        ProfileUpdate(CANARY, CANARY),
        ProfileKeyUpdate(secret),
        SenderKeyDistribution(secret),
        ConversationUpdate(secret, CANARY, ()),
        consent,
        Told(author, consent),
        Roster(secret, 1, frozenset({secret})),
        AssistantCall(AssistantRequest(ID, Rewrite(CANARY)).encode()),
        AnswerFrame(ID, 0, True, secret),
        DeliveryReceipt((1,)),
    ]
    assert CANARY not in repr(shown)
    assert AssistantRequest(ID, Rewrite(CANARY, CANARY)).__repr__().count(CANARY) == 0


def test_an_error_says_nothing_of_what_was_read() -> None:
    with pytest.raises(MalformedContent) as raised:
        read(_group(CANARY.encode()))
    assert CANARY not in repr(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
