"""Makes the vectors of the assistant's wire, for clients in other languages: ``python -m tests.messaging.wire.make_vectors``.

Everything follows from the constants below, but for one signature, which is random: it was made once, for the statement here.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from attestation.receipt import consent_set_digest
from messaging.wire.answers import AnswerPart, FrameWriter
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
from messaging.wire.consent import CONSENT_CONTEXT, Consent, ConsentScope, SignedConsent, conversation_id, member_tag
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
    SenderKeyDistribution,
    SentTranscript,
    Told,
    Typing,
    encode_content,
)
from messaging.wire.identifiers import IdentityKind, MessageId, ServiceId
from messaging.wire.limits import MAX_REQUEST, REQUEST_BUCKETS
from messaging.wire.padding import pad, pad_to_bucket, unpad
from messaging.wire.protobuf import assistant_pb2 as pb
from signal_protocol.public.keys import public_key_of

FOLDER = Path(__file__).parents[2] / "vectors" / "assistant"
# Members that earlier versions of these files do not show: they are left out where nothing is said in them.
LATER = ("quote", "attachments", "mentions", "expires_in", "admins", "bots", "remove")
LONG = 600  # bytes from which on only length and hash are shown

Json: TypeAlias = Mapping[str, "Json"] | list["Json"] | str | int | bool | None


def digest(name: str) -> bytes:
    """32 bytes for ``name``, so that no two values here are alike."""
    return hashlib.sha256(f"subrosa vectors {name}".encode()).digest()


KEY, CONVERSATION = digest("master key"), conversation_id(digest("master key"))
IDENTITY_KEY = digest("identity key")  # a private key that everybody knows
ALICE, BOB, CAROL, ASSISTANT = (ServiceId(UUID(int=0x4000_8000_0000_0000_0000 + number)) for number in range(1, 5))
CAROLS_NUMBER = ServiceId(CAROL.uuid, IdentityKind.PNI)
REQUEST_ID, OTHER_ID, SALT = (digest(name)[:16] for name in ("request", "other request", "salt"))
EVIDENCE, NONCE = digest("evidence document"), digest("nonce")
NOW = 1_790_000_000_000

OPTED_IN = Consent(CONVERSATION, ALICE, NOW, opted_in=True)
NARROW = Consent(
    CONVERSATION,
    ALICE,
    NOW + 1,
    opted_in=True,
    scopes=frozenset({ConsentScope.SUMMARIES}),
    expires_at=NOW + 86_400_000,
)
OPTED_OUT = Consent(CONVERSATION, ALICE, NOW + 2, opted_in=False, scopes=frozenset())
OF_A_NUMBER = Consent(CONVERSATION, CAROLS_NUMBER, NOW, opted_in=True, scopes=frozenset({ConsentScope.REPLIES}))
SIGNATURE = bytes.fromhex(
    "df4d0b81a18349cef1bba37212e5d577433064555dad09258049d9089ed8481b"
    "30e2f1b290298c1f855248429744923ab88419869a48d796725c95bad1aa8f05"
)
SIGNED = SignedConsent(NARROW.encode(), SIGNATURE)


def identity_of(member: ServiceId) -> bytes:
    """The identity key of somebody here."""
    return public_key_of(digest(f"identity key of {member}"))


UPDATE = ConversationUpdate(KEY, "Rose garden", (ALICE, BOB, CAROLS_NUMBER), 7)
ROSTER = Roster(KEY, 7, frozenset(member_tag(KEY, member, identity_of(member)) for member in UPDATE.members))
MESSAGE = DataMessage("Under the rose \U0001f339", NOW, KEY, ROSTER.digest())
CONSENT_UPDATE = ConsentUpdate(KEY, SIGNED, ASSISTANT)
SCOPE = Scope(
    KEY,
    (MessageId(ALICE, NOW), MessageId(ALICE, NOW + 5), MessageId(BOB, NOW + 3)),
    not_opted_in=2,
    not_asked=1,
    names={ALICE: "Alice", BOB: "Bob \U0001f339", CAROL: "Carol"},
)
COVERAGE = Coverage(used=3, not_opted_in=2, not_held=1, not_asked=1)
LINE = SummaryLine(
    "Bob brings the roses.",
    "commitment",
    (MessageId(BOB, NOW + 3), MessageId(ALICE, NOW)),
    BOB,
    ("link", "quotes_another"),
)
DOCUMENT, COLLATERAL = b'{"an":"evidence document"}', b'{"what":"its vendors say"}'
ROSE = "A rose is a rose. "

POINTER = AttachmentPointer(
    3,
    "x7Gd0a_-",
    digest("key of a file") + digest("mac of a file"),
    digest("a file"),
    4096,
    "image/png",
    "rose \U0001f339.png",
)
ANSWER = DataMessage(
    "@Bob look at this",
    NOW + 9,
    KEY,
    ROSTER.digest(),
    Quote(MessageId(BOB, NOW + 3), "Which roses?"),
    (POINTER, AttachmentPointer(2, "old", bytes(64), bytes(32), 0, "")),
    (Mention(0, 4, BOB),),
    604_800,
)
EDIT = Edit(NOW, DataMessage("Under the roses \U0001f339", NOW + 10, KEY, ROSTER.digest()))
GOVERNED = ConversationUpdate(
    KEY, "Rose garden", (ALICE, BOB, CAROL), 8, (ALICE,), (ListedBot(BOB), ListedBot(CAROL, reads_all=True)), 604_800
)

CONTENTS: dict[str, Content] = {
    "a message in a conversation": MESSAGE,
    "a message outside of conversations": DataMessage("Hello", NOW),
    "a profile key": ProfileKeyUpdate(digest("profile key")),
    "a sender key": SenderKeyDistribution(b"as libsignal writes it"),
    "a delivery receipt": DeliveryReceipt((NOW, NOW + 3)),
    "a conversation": UPDATE,
    "a consent, with a hint where it is shared": CONSENT_UPDATE,
    "a consent, without": ConsentUpdate(KEY, SIGNED),
    "a roster": ROSTER,
    "what one has written": SentTranscript(MESSAGE),
    "a conversation, told to a later device": Told(BOB, UPDATE),
    "a consent, told to a later device": Told(ALICE, CONSENT_UPDATE),
    "a request": AssistantCall(AssistantRequest(REQUEST_ID, StatusRequest(KEY), EVIDENCE).encode()),
    "a frame of an answer": AnswerFrame(REQUEST_ID, 3, True, b"data"),
    "an empty frame": AnswerFrame(REQUEST_ID, 0, False, b""),
    "a message with all that one may have": ANSWER,
    "an edit": EDIT,
    "a reaction": Reaction("\U0001f44d\U0001f3fd", MessageId(BOB, NOW + 3), NOW + 11, KEY),
    "a reaction, taken back": Reaction("\U0001f44d\U0001f3fd", MessageId(BOB, NOW + 3), NOW + 12, KEY, remove=True),
    "a deletion": Deletion(NOW, NOW + 13, KEY),
    "an edit that one has made": SentTranscript(EDIT),
    "a deletion that one has made": SentTranscript(Deletion(NOW, NOW + 13, KEY)),
    "a read receipt": ReadReceipt((NOW, NOW + 3)),
    "typing": Typing(True, NOW, CONVERSATION),
    "typing no more": Typing(False, NOW + 1, CONVERSATION),
    "typing outside of conversations": Typing(True, NOW),
    "a profile": ProfileUpdate("Alice \U0001f339", "among roses", NOW),
    "a conversation with an admin, bots and a time": GOVERNED,
}
REQUESTS = {
    "evidence": AssistantRequest(REQUEST_ID, EvidenceRequest(NONCE)),
    "summarize": AssistantRequest(REQUEST_ID, Summarize(SCOPE), EVIDENCE),
    "summarize nothing": AssistantRequest(REQUEST_ID, Summarize(Scope(KEY, ())), EVIDENCE),
    "suggest replies, soon": AssistantRequest(REQUEST_ID, SuggestReplies(SCOPE, 2), EVIDENCE, deadline=5_000),
    "questions for me": AssistantRequest(REQUEST_ID, QuestionsForMe(SCOPE), EVIDENCE),
    "actions": AssistantRequest(REQUEST_ID, Actions(SCOPE), EVIDENCE),
    "rewrite": AssistantRequest(REQUEST_ID, Rewrite("bring the roses!!", "friendly"), EVIDENCE),
    "forget what is mine, here": AssistantRequest(REQUEST_ID, Forget(KEY), EVIDENCE),
    "forget what is mine, everywhere": AssistantRequest(REQUEST_ID, Forget(), EVIDENCE),
    "forget a whole conversation": AssistantRequest(REQUEST_ID, Forget(KEY, whole=True), EVIDENCE),
    "status of a conversation": AssistantRequest(REQUEST_ID, StatusRequest(KEY), EVIDENCE),
    "status": AssistantRequest(REQUEST_ID, StatusRequest(), EVIDENCE),
    "cancel": AssistantRequest(OTHER_ID, Cancel(REQUEST_ID)),
}
CONSENTS = (
    ConsentReference(ALICE, SIGNED.digest()),
    ConsentReference(ALICE, digest("an earlier statement of alice")),
    ConsentReference(BOB, digest("the statement of bob")),
)


def computed(kind: ResultKind, consents: tuple[ConsentReference, ...] = ()) -> Result:
    """A result that an engine has computed."""
    model, instructions = digest("model"), hashlib.sha256().digest()
    return Result(kind=kind, salt=SALT, engine="extractive", model=model, instructions=instructions, consents=consents)


RESULTS = {
    "lines": computed(Summary((LINE,), COVERAGE), CONSENTS),
    "no lines": computed(Summary((), Coverage(0, 2, 1))),
    "replies": computed(Replies((Reply("Gladly!", "agree"), Reply("Not on Saturday.", "decline")), COVERAGE), CONSENTS),
    "rewritten": computed(Rewritten("Would you bring the roses?")),
    "forgotten": Result(kind=Forgotten(42), salt=SALT),
    "status": Result(
        kind=Status("subrosa 1.0", NOW, 2000, 604_800, True, 1500, 17, frozenset({ALICE, BOB})), salt=SALT
    ),
    "refused": Result(kind=Refusal("not_opted_in"), salt=SALT),
    "refused for now": Result(kind=Refusal("busy", retry_after=2500), salt=SALT),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A part of an answer, with its result readable."""

    text: str = ""
    result: Result | None = None
    receipt: bytes | None = None

    @property
    def part(self) -> AnswerPart:
        """As it travels."""
        return AnswerPart(self.text, None if self.result is None else self.result.encode(), self.receipt)


FLUSH = None


def shown(data: bytes) -> Json:
    """Bytes as hex, long ones as length and hash."""
    if len(data) <= LONG:
        return data.hex()
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def described(value: object) -> Json:
    """The fields of a value by their names, and of a choice the name of what was chosen."""
    match value:
        case StrEnum():
            return value.value
        case bytes():
            return shown(value)
        case ServiceId():
            return str(value)
        case str() if value and value == ROSE * (len(value) // len(ROSE)):
            return {"text": ROSE, "times": len(value) // len(ROSE)}
        case None | str() | int():
            return value
        case Mapping():
            return {str(key): described(value[key]) for key in sorted(value)}
        case frozenset():
            return [described(each) for each in sorted(value)]
        case tuple():
            return [described(each) for each in value]
    assert is_dataclass(value)
    shown_fields = [each for each in fields(value) if each.name not in LATER or getattr(value, each.name)]
    return {"type": type(value).__name__} | {each.name: described(getattr(value, each.name)) for each in shown_fields}


def content_vectors() -> Json:
    """Each kind of content: its protobuf and how long it is when padded."""
    return [
        {
            "name": name,
            "content": described(content),
            "protobuf": shown(unpad(encode_content(content))),
            "plaintext": shown(encode_content(content)),
            "plaintext_length": len(encode_content(content)),
        }
        for name, content in CONTENTS.items()
    ]


def request_vectors() -> Json:
    """Each kind of request: the bytes that travel and the hash in a receipt."""
    return [_hashed(name, "request", request, request.encode()) for name, request in REQUESTS.items()]


def result_vectors() -> Json:
    """Each kind of result. Evidence is deflated without compression, the only way that has one outcome everywhere."""
    plain = [_hashed(name, "result", result, result.encode()) for name, result in RESULTS.items()]
    return [*plain, _hashed("evidence", "result", *evidence_result())]


def evidence_result() -> tuple[Result, bytes]:
    """Evidence, and one of the many encodings that it has."""
    result = Result(kind=Evidence(DOCUMENT, COLLATERAL), salt=SALT)
    message = pb.Result.FromString(result.encode())
    message.evidence.deflated = zlib.compress(DOCUMENT, 0)
    message.evidence.collateral = zlib.compress(COLLATERAL, 0)
    return result, message.SerializeToString()


def consent_vectors() -> Json:
    """Statements, what is signed of them, and the names of a conversation and its members."""
    statements = {"in": OPTED_IN, "in, narrowed": NARROW, "out": OPTED_OUT, "of a number": OF_A_NUMBER}
    members = (ALICE, BOB, CAROL, CAROLS_NUMBER)
    return {
        "master_key": KEY.hex(),
        "conversation_id": CONVERSATION.hex(),
        "members": [
            {
                "member": str(member),
                "bytes": member.to_bytes().hex(),
                "identity_key": identity_of(member).hex(),
                "tag": member_tag(KEY, member, identity_of(member)).hex(),
            }
            for member in members
        ],
        "roster": {
            "revision": ROSTER.revision,
            "tags": [tag.hex() for tag in sorted(ROSTER.tags)],
            "digest": ROSTER.digest().hex(),
        },
        "statements": [
            {
                "name": name,
                "statement": described(consent),
                "protobuf": consent.encode().hex(),
                "signed": (CONSENT_CONTEXT + consent.encode()).hex(),
            }
            for name, consent in statements.items()
        ],
        "signed": {
            "identity_key_private": IDENTITY_KEY.hex(),
            "identity_key": public_key_of(IDENTITY_KEY).hex(),
            "statement": SIGNED.statement.hex(),
            "signature": SIGNED.signature.hex(),
            "digest": SIGNED.digest().hex(),
        },
        "consent_set": {
            "consents": [described(consent) for consent in CONSENTS],
            "digest": consent_set_digest((each.author.to_bytes(), each.digest) for each in CONSENTS).hex(),
            "digest_of_none": consent_set_digest([]).hex(),
        },
        "rendezvous": [
            {"assistant": str(assistant), "sha256": weight.hex()}
            for weight, assistant in sorted(((_weight(each), each) for each in members), reverse=True)
        ],
    }


def answer_vectors() -> Json:
    """Answers in frames: what was written, where a frame was asked for, and all frames."""
    small, large = computed(Rewritten("Would you bring them?")), computed(Rewritten(ROSE * 1200))
    begin, go_on, more = Written("Would you "), Written("bring "), Written(ROSE * 450)
    return [
        _answer("one frame", [Written(result=small, receipt=b"a receipt")]),
        _answer("without a receipt", [Written(result=RESULTS["refused"])]),
        _answer("several frames, the last one empty", [Written(result=large, receipt=b"a receipt")]),
        _answer("streamed", [begin, FLUSH, FLUSH, go_on, Written("them?"), Written(result=small), FLUSH]),
        _answer("streamed, more at once than a frame holds", [more, FLUSH, FLUSH, Written(result=small)]),
    ]


def length_vectors() -> Json:
    """Lengths before and after padding, at the edges."""
    lengths = [0, 1, 78, 79, 158, 159, 1000]
    edges = [0, *(bucket - edge for bucket in REQUEST_BUCKETS for edge in (1, 0))][:-1]
    requests = [0, 100, REQUEST_BUCKETS[0] - 6, REQUEST_BUCKETS[0] - 5, REQUEST_BUCKETS[0] - 4, MAX_REQUEST]
    return {
        "in_steps": [{"protobuf": length, "plaintext": len(pad(bytes(length)))} for length in lengths],
        "in_buckets": [
            {"protobuf": length, "plaintext": len(pad_to_bucket(bytes(length), REQUEST_BUCKETS))} for length in edges
        ],
        "requests": [
            {"request": length, "plaintext": len(encode_content(AssistantCall(bytes(length))))} for length in requests
        ],
    }


def _weight(assistant: ServiceId) -> bytes:
    return hashlib.sha256(b"subrosa rendezvous v1\x00" + CONVERSATION + assistant.to_bytes()).digest()


def _hashed(name: str, kind: str, value: object, encoded: bytes) -> Json:
    sha256 = hashlib.sha256(encoded).hexdigest()
    return {"name": name, kind: described(value), "protobuf": shown(encoded), "sha256": sha256}


def _answer(name: str, steps: Iterable[Written | None]) -> Json:
    writer, frames = FrameWriter(REQUEST_ID), []
    written: list[Json] = []
    for step in steps:
        if step is None:
            frames.append(writer.flush())
            written.append({"flush": True})
        else:
            writer.write(step.part)
            written.append({"write": described(step), "bytes": shown(step.part.encode())})
    frames += writer.finish()
    return {"name": name, "request_id": REQUEST_ID.hex(), "steps": written, "frames": [_frame(each) for each in frames]}


def _frame(frame: AnswerFrame) -> Json:
    return {
        "index": frame.index,
        "last": frame.last,
        "data": shown(frame.data),
        "plaintext": shown(encode_content(frame)),
    }


FILES = {
    "content.json": content_vectors,
    "requests.json": request_vectors,
    "results.json": result_vectors,
    "consent.json": consent_vectors,
    "answers.json": answer_vectors,
    "lengths.json": length_vectors,
}


def text_of(name: str) -> str:
    """What the file ``name`` has to say."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file_name in FILES:
        (FOLDER / file_name).write_text(text_of(file_name), encoding="utf-8")
