"""``/v1/messages``."""

from messaging.relay.accounts.access import access_key_of
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.http import Answer, Call, Route, answer_with
from messaging.relay.messages.service import MessageService
from messaging.wire.messages import IncomingMessageList


def message_routes(messages: MessageService, authentication: Authentication) -> list[Route]:
    """The routes of sending."""

    async def put_messages(call: Call) -> Answer:
        sender = await authentication.find(call)
        to = call.service_id()
        sent = await messages.send(call.entity(IncomingMessageList), to, sender=sender, access_key=access_key_of(call))
        return answer_with(sent)

    return [Route("PUT", "/v1/messages/{service_id}", put_messages)]
