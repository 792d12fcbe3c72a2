"""``/v1/assistants`` and ``/v1/server-info``: endpoints of our own."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.tables import assistants, set_accepting
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import Wakeups
from messaging.relay.errors import Forbidden, InvalidRequest, InvalidSignedKey, NotAuthenticated
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Caller, Doc, Route, answer_with
from messaging.wire.accounts import AccountCreationResponse, RegistrationRequest
from messaging.wire.assistants import AssistantDirectory, AssistantState, ListedAssistant
from messaging.wire.server_info import AssistantInfo, ServerInfo

TOKEN_HEADER = "X-Assistant-Token"  # noqa: S105 - the name of a header
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class AssistantService:
    """Lets the holder of the operator's token enrol assistants (without a token nobody may), and says which there are.

    What it says is a hint: clients do not trust the relay, but the evidence of whom they ask.
    """

    database: Database
    registration: RegistrationService
    wakeups: Wakeups
    token: bytes | None = field(repr=False)

    def check_token(self, given: str | None) -> None:
        """Compare in constant time.

        Raises:
            Forbidden: no token is set, none was given, or another.
        """
        if self.token is None or not hmac.compare_digest((given or "").encode(), self.token):
            raise Forbidden

    async def directory(self) -> AssistantDirectory:
        """All assistants, with who of them is connected and takes requests now."""
        async with self.database.read() as db:
            found = await assistants(db)
        connected = await self.wakeups.connected([mailbox for each in found for mailbox in each.mailboxes])
        return AssistantDirectory(
            assistants=tuple(
                ListedAssistant(
                    name=each.name,
                    service_id=str(each.aci),
                    online=not connected.isdisjoint(each.mailboxes),
                    accepting=each.accepting,
                )
                for each in found
            )
        )

    async def set_state(self, name: str, caller: Caller, state: AssistantState) -> None:
        """Note what an assistant says of itself.

        Raises:
            Forbidden: the caller is not the assistant of this name.
        """
        async with self.database.begin() as db:
            if not await set_accepting(db, caller.account_id, name, accepting=state.accepting):
                raise Forbidden


def assistant_routes(service: AssistantService, authentication: Authentication) -> list[Route]:
    """The routes by which an enclave makes itself an account and says that it drains, and by which clients find it."""

    async def put_assistant(call: Call) -> Answer:
        service.check_token(call.headers.get(TOKEN_HEADER.lower()))
        name, credentials = call.parameters["name"], call.credentials()
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest("name")
        if credentials is None:
            raise NotAuthenticated
        request = call.entity(RegistrationRequest)
        return answer_with(await service.registration.register_assistant(name, request, credentials))

    async def get_assistants(_call: Call) -> Answer:
        return answer_with(await service.directory())

    async def put_state(call: Call) -> Answer:
        caller = await authentication.require(call)
        await service.set_state(call.parameters["name"], caller, call.entity(AssistantState))
        return NO_CONTENT

    return [
        Route(
            "GET",
            "/v1/assistants",
            get_assistants,
            Doc("The assistants, and which of them can be asked now", access=Access.ANYONE, gives=AssistantDirectory),
        ),
        Route(
            "PUT",
            "/v1/assistants/{name}",
            put_assistant,
            Doc(
                "Register the account of an assistant, with the operator's token",
                access=Access.OPERATOR_TOKEN,
                takes=RegistrationRequest,
                gives=AccountCreationResponse,
                raises=(Forbidden, InvalidSignedKey),
            ),
        ),
        Route(
            "PUT",
            "/v1/assistants/{name}/state",
            put_state,
            Doc(
                "Say whether an assistant takes new requests; from its own device",
                takes=AssistantState,
                status=204,
                raises=(Forbidden,),
            ),
        ),
    ]


def server_info_routes(database: Database, describe: Callable[[tuple[AssistantInfo, ...]], ServerInfo]) -> list[Route]:
    """The route that says what a client must know of this relay."""

    async def get_server_info(_call: Call) -> Answer:
        async with database.read() as db:
            found = await assistants(db)
        return answer_with(describe(tuple(AssistantInfo(name=each.name, service_id=str(each.aci)) for each in found)))

    return [
        Route(
            "GET",
            "/v1/server-info",
            get_server_info,
            Doc("What a client must know of this relay", access=Access.ANYONE, gives=ServerInfo),
        )
    ]
