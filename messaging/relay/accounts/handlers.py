"""``/v1/verification``, ``/v1/registration``, ``/v1/accounts`` and ``/v1/certificate``."""

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.certificates import CertificateService
from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.service import VerificationService
from messaging.relay.errors import NotAuthenticated
from messaging.relay.http import Answer, Call, Route, answer_with
from messaging.wire.accounts import (
    AccountIdentityResponse,
    CreateVerificationSession,
    RegistrationRequest,
    RequestVerificationCode,
    SubmitVerificationCode,
    UpdateVerificationSession,
)

_SESSION = "/v1/verification/session/{session_id}"


def verification_routes(verification: VerificationService) -> list[Route]:
    """The routes of verification sessions."""

    async def create(call: Call) -> Answer:
        wanted = call.entity(CreateVerificationSession)
        return answer_with(await verification.create(wanted.number, remote=call.remote))

    async def get(call: Call) -> Answer:
        return answer_with(await verification.get(call.parameters["session_id"]))

    async def update(call: Call) -> Answer:
        call.entity(UpdateVerificationSession)
        return answer_with(await verification.get(call.parameters["session_id"]))

    async def request_code(call: Call) -> Answer:
        wanted = call.entity(RequestVerificationCode)
        return answer_with(await verification.request_code(call.parameters["session_id"], wanted))

    async def submit_code(call: Call) -> Answer:
        submitted = call.entity(SubmitVerificationCode)
        return answer_with(await verification.submit_code(call.parameters["session_id"], submitted.code))

    return [
        Route("POST", "/v1/verification/session", create),
        Route("GET", _SESSION, get),
        Route("PATCH", _SESSION, update),
        Route("POST", f"{_SESSION}/code", request_code),
        Route("PUT", f"{_SESSION}/code", submit_code),
    ]


def account_routes(
    registration: RegistrationService, certificates: CertificateService, authentication: Authentication
) -> list[Route]:
    """The routes of registration and of registered devices."""

    async def register(call: Call) -> Answer:
        credentials = call.credentials()
        if credentials is None:
            raise NotAuthenticated
        return answer_with(await registration.register(call.entity(RegistrationRequest), credentials))

    async def whoami(call: Call) -> Answer:
        caller = await authentication.require(call)
        return answer_with(AccountIdentityResponse(uuid=caller.aci, pni=caller.pni))

    async def delivery_certificate(call: Call) -> Answer:
        return answer_with(await certificates.issue(await authentication.require(call)))

    async def keepalive(_call: Call) -> Answer:
        return Answer(200)

    return [
        Route("POST", "/v1/registration", register),
        Route("GET", "/v1/accounts/whoami", whoami),
        Route("GET", "/v1/certificate/delivery", delivery_certificate),
        Route("GET", "/v1/keepalive", keepalive),
    ]
