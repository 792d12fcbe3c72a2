"""``/v1/assistants`` and ``/v1/server-info``: endpoints of our own."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.tables import assistants
from messaging.relay.database import Database
from messaging.relay.errors import Forbidden, InvalidRequest, InvalidSignedKey, NotAuthenticated
from messaging.relay.http import Access, Answer, Call, Doc, Route, answer_with
from messaging.wire.accounts import AccountCreationResponse, RegistrationRequest
from messaging.wire.server_info import AssistantInfo, ServerInfo

TOKEN_HEADER = "X-Assistant-Token"  # noqa: S105 - the name of a header
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class AssistantService:
    """Lets the holder of the operator's token enrol assistants. Without a token nobody may."""

    registration: RegistrationService
    token: bytes | None = field(repr=False)

    def check_token(self, given: str | None) -> None:
        """Compare in constant time.

        Raises:
            Forbidden: no token is set, none was given, or another.
        """
        if self.token is None or not hmac.compare_digest((given or "").encode(), self.token):
            raise Forbidden


def assistant_routes(service: AssistantService) -> list[Route]:
    """The route by which an enclave makes itself an account."""

    async def put_assistant(call: Call) -> Answer:
        service.check_token(call.headers.get(TOKEN_HEADER.lower()))
        name, credentials = call.parameters["name"], call.credentials()
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest("name")
        if credentials is None:
            raise NotAuthenticated
        request = call.entity(RegistrationRequest)
        return answer_with(await service.registration.register_assistant(name, request, credentials))

    return [
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
        )
    ]


def server_info_routes(database: Database, describe: Callable[[tuple[AssistantInfo, ...]], ServerInfo]) -> list[Route]:
    """The route that says what a client must know of this relay."""

    async def get_server_info(_call: Call) -> Answer:
        async with database.read() as db:
            found = await assistants(db)
        return answer_with(describe(tuple(AssistantInfo(name=name, service_id=str(aci)) for name, aci in found)))

    return [
        Route(
            "GET",
            "/v1/server-info",
            get_server_info,
            Doc("What a client must know of this relay", access=Access.ANYONE, gives=ServerInfo),
        )
    ]
