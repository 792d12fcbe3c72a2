"""``/v1/messages``."""

from uuid import UUID

from messaging.relay.accounts.access import access_key_of
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.delivery.parking import ParkingService
from messaging.relay.errors import (
    DevicesMismatched,
    DevicesStale,
    Forbidden,
    IdempotencyKeyReused,
    MalformedRequest,
    ManyMismatched,
    ManyStale,
    NotAuthenticated,
    NotFound,
)
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Doc, Route, answer_with
from messaging.relay.messages.idempotency import once_of
from messaging.relay.messages.multi_recipient import ManySending, MultiRecipientService
from messaging.relay.messages.repair import RepairingSender
from messaging.relay.messages.reports import SpamReports
from messaging.relay.messages.service import Sending
from messaging.wire.messages import (
    GROUP_SEND_HEADER,
    IDEMPOTENCY_HEADER,
    MULTI_RECIPIENT_TYPE,
    IncomingMessageList,
    ParkedMessages,
    SendMessageResponse,
    SendMultiRecipientMessageResponse,
    SpamReport,
)

_GROUP_SEND = GROUP_SEND_HEADER.lower()
_SENT = answer_with(SendMessageResponse(needs_sync=False))
_SENT_AND_SYNC = answer_with(SendMessageResponse(needs_sync=True))
_STORY = {"story": "`true`: no access is needed, and unknown recipients are no error"}
_ONE = {**_STORY, "bundles": "`true`: add prekey bundles to a 409 or 410, rate-limited"}
_MANY = {
    **_STORY,
    "ts": "the sender's timestamp, milliseconds since 1970",
    "online": "`true`: only for devices that are online",
    "urgent": "`false`: wake nobody",
}
_ONCE = {IDEMPOTENCY_HEADER: "16 to 128 characters: a repeated send is answered as the first time and sent once"}


def message_routes(
    sender: RepairingSender,
    many: MultiRecipientService,
    reports: SpamReports,
    parking: ParkingService,
    authentication: Authentication,
) -> list[Route]:
    """The routes of sending, of reporting, and of what could not be delivered."""

    async def put_messages(call: Call) -> Answer:
        caller = await authentication.find_sender(call)
        to, story = call.service_id(), call.flag("story")
        refuse_group_send_token(call, story=story)
        scope = ("of", caller.mailbox_id) if caller else ("to", to)
        sending = Sending(caller, access_key_of(call), story, once_of(call, *scope), call.remote)
        messages = call.entity(IncomingMessageList)
        answer = await sender.send(messages, to, sending, with_bundles=call.flag("bundles"))
        return _SENT_AND_SYNC if answer.needs_sync else _SENT

    async def put_many(call: Call) -> Answer:
        story = call.flag("story")
        refuse_group_send_token(call, story=story)
        sending = ManySending(
            access_keys=None if story else access_key_of(call),
            timestamp=call.number("ts", 0),
            online=call.flag("online"),
            urgent=call.flag("urgent", default=True),
            story=story,
            once=once_of(call, "many"),
            remote=call.remote,
        )
        return answer_with(await many.send(call.body, sending))

    async def report(call: Call) -> Answer:
        caller = await authentication.require(call)
        token = call.entity(SpamReport).token if call.body else None
        sender_id, guid = uuid_of(call.parameters["source"]), uuid_of(call.parameters["guid"])
        await reports.report(caller, sender=sender_id, guid=guid, token=token)
        return Answer(202)

    async def get_parked(call: Call) -> Answer:
        return answer_with(await parking.parked(await authentication.require(call)))

    async def retry_parked(call: Call) -> Answer:
        await parking.retry(await authentication.require(call), sequence_of(call))
        return NO_CONTENT

    async def drop_parked(call: Call) -> Answer:
        await parking.drop(await authentication.require(call), sequence_of(call))
        return NO_CONTENT

    return [
        Route(
            "PUT",
            "/v1/messages/multi_recipient",
            put_many,
            Doc(
                "Send one sealed message to many accounts",
                access=Access.KEY,
                takes=MULTI_RECIPIENT_TYPE,
                gives=SendMultiRecipientMessageResponse,
                raises=(NotFound, ManyMismatched, ManyStale, IdempotencyKeyReused),
                query=_MANY,
                headers=_ONCE,
            ),
        ),
        Route(
            "GET",
            "/v1/messages/parked",
            get_parked,
            Doc("Envelopes that failed too often and wait for a decision", gives=ParkedMessages),
        ),
        Route(
            "POST",
            "/v1/messages/parked/{sequence}/retry",
            retry_parked,
            Doc("Queue a parked envelope again, at the end", status=204, raises=(NotFound,)),
        ),
        Route(
            "DELETE",
            "/v1/messages/parked/{sequence}",
            drop_parked,
            Doc("Forget a parked envelope", status=204, raises=(NotFound,)),
        ),
        Route(
            "POST",
            "/v1/messages/report/{source}/{guid}",
            report,
            Doc("Report the sender of an envelope", takes=SpamReport, status=202, raises=(NotFound,)),
        ),
        Route(
            "PUT",
            "/v1/messages/{service_id}",
            put_messages,
            Doc(
                "Send one ciphertext to each device of an account",
                access=Access.DEVICE_OR_KEY,
                takes=IncomingMessageList,
                gives=SendMessageResponse,
                raises=(MalformedRequest, Forbidden, NotFound, DevicesMismatched, DevicesStale, IdempotencyKeyReused),
                query=_ONE,
                headers=_ONCE,
            ),
        ),
    ]


def refuse_group_send_token(call: Call, *, story: bool) -> None:
    """Accept no group send endorsement: the relay cannot check one.

    Raises:
        MalformedRequest: a story carries one.
        NotAuthenticated: another message carries one.
    """
    if _GROUP_SEND in call.headers:
        raise MalformedRequest if story else NotAuthenticated


def uuid_of(text: str) -> UUID:
    """The canonical spelling of a UUID.

    Raises:
        NotFound: something else.
    """
    try:
        found = UUID(text)
    except ValueError:
        raise NotFound from None
    if str(found) != text.lower():
        raise NotFound
    return found


def sequence_of(call: Call) -> int:
    """The path's ``{sequence}``.

    Raises:
        NotFound: not a number that a sequence can be.
    """
    text = call.parameters["sequence"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound
    return int(text)
