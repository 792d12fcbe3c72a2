"""``/v1/registration``, ``/v1/accounts``, ``/v2/accounts`` and ``/v1/certificate``."""

from messaging.relay.accounts.account import AccountService
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.certificates import CertificateService
from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.report import describe
from messaging.relay.accounts.service import VerificationService
from messaging.relay.errors import (
    CodeNotDelivered,
    Forbidden,
    InvalidRequest,
    InvalidSignedKey,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
    RegistrationLocked,
    VerificationConflict,
)
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Doc, Route, answer_with
from messaging.wire.accounts import (
    AccountAttributes,
    AccountCreationResponse,
    AccountIdentityResponse,
    CreateVerificationSession,
    DataReport,
    DeviceName,
    Discoverability,
    RegistrationLock,
    RegistrationRequest,
    RequestVerificationCode,
    SubmitVerificationCode,
    UpdateVerificationSession,
    VerificationSession,
)
from messaging.wire.identifiers import parse_device_id
from messaging.wire.messages import DeliveryCertificate

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
        Route(
            "POST",
            "/v1/verification/session",
            create,
            Doc(
                "Begin to verify a number",
                access=Access.ANYONE,
                takes=CreateVerificationSession,
                gives=VerificationSession,
            ),
        ),
        Route(
            "GET",
            _SESSION,
            get,
            Doc(
                "The state of a verification session",
                access=Access.ANYONE,
                gives=VerificationSession,
                raises=(NotFound, InvalidRequest),
            ),
        ),
        Route(
            "PATCH",
            _SESSION,
            update,
            Doc(
                "Update a verification session; nothing is asked for, so nothing changes",
                access=Access.ANYONE,
                takes=UpdateVerificationSession,
                gives=VerificationSession,
                raises=(NotFound,),
            ),
        ),
        Route(
            "POST",
            f"{_SESSION}/code",
            request_code,
            Doc(
                "Send a code to the number",
                access=Access.ANYONE,
                takes=RequestVerificationCode,
                gives=VerificationSession,
                raises=(NotFound, VerificationConflict, CodeNotDelivered),
            ),
        ),
        Route(
            "PUT",
            f"{_SESSION}/code",
            submit_code,
            Doc(
                "Try a code; the answer says whether the number is verified now",
                access=Access.ANYONE,
                takes=SubmitVerificationCode,
                gives=VerificationSession,
                raises=(NotFound, VerificationConflict),
            ),
        ),
    ]


def registration_routes(
    registration: RegistrationService, certificates: CertificateService, authentication: Authentication
) -> list[Route]:
    """The routes of registration, and of what a registered device is."""

    async def register(call: Call) -> Answer:
        credentials = call.credentials()
        if credentials is None:
            raise NotAuthenticated
        return answer_with(await registration.register(call.entity(RegistrationRequest), credentials))

    async def whoami(call: Call) -> Answer:
        caller = await authentication.require(call)
        return answer_with(AccountIdentityResponse(uuid=caller.aci, pni=caller.pni, bot=caller.is_bot or None))

    async def delivery_certificate(call: Call) -> Answer:
        return answer_with(await certificates.issue(await authentication.require(call)))

    async def keepalive(_call: Call) -> Answer:
        return Answer(200)

    return [
        Route(
            "POST",
            "/v1/registration",
            register,
            Doc(
                "Register the account of a verified number, or register it anew",
                access=Access.NUMBER,
                takes=RegistrationRequest,
                gives=AccountCreationResponse,
                raises=(MalformedRequest, Forbidden, RegistrationLocked, InvalidSignedKey),
            ),
        ),
        Route(
            "GET", "/v1/accounts/whoami", whoami, Doc("The ids of the calling account", gives=AccountIdentityResponse)
        ),
        Route(
            "GET",
            "/v1/certificate/delivery",
            delivery_certificate,
            Doc("A sender certificate for sealed sender, valid for a day", gives=DeliveryCertificate),
        ),
        Route("GET", "/v1/keepalive", keepalive, Doc("Nothing, so that a connection stays open", access=Access.ANYONE)),
    ]


def account_routes(accounts: AccountService, authentication: Authentication) -> list[Route]:
    """The routes by which an account sees and changes itself."""

    async def set_attributes(call: Call) -> Answer:
        caller = await authentication.require(call)
        await accounts.set_attributes(caller, call.entity(AccountAttributes))
        return NO_CONTENT

    async def set_lock(call: Call) -> Answer:
        caller = await authentication.require(call)
        await accounts.set_lock(caller, call.entity(RegistrationLock).registration_lock)
        return NO_CONTENT

    async def remove_lock(call: Call) -> Answer:
        await accounts.set_lock(await authentication.require(call), None)
        return NO_CONTENT

    async def set_name(call: Call) -> Answer:
        caller = await authentication.require(call)
        wanted = call.query.get("deviceId")
        device_id = caller.device_id if wanted is None else parse_device_id(wanted)
        await accounts.set_name(caller, call.entity(DeviceName).device_name, device_id)
        return NO_CONTENT

    async def set_discoverable(call: Call) -> Answer:
        caller = await authentication.require(call)
        wanted = call.entity(Discoverability)
        await accounts.set_discoverable(caller, discoverable=wanted.discoverable_by_phone_number)
        return NO_CONTENT

    async def delete_account(call: Call) -> Answer:
        await accounts.delete(await authentication.require(call))
        return NO_CONTENT

    async def data_report(call: Call) -> Answer:
        caller = await authentication.require(call)
        return answer_with(describe(await accounts.report(caller), caller))

    return [
        Route(
            "PUT",
            "/v1/accounts/attributes",
            set_attributes,
            Doc("Replace the attributes of account and device", takes=AccountAttributes, status=204),
        ),
        Route(
            "PUT",
            "/v1/accounts/registration_lock",
            set_lock,
            Doc("Set the registration lock; from the primary device", takes=RegistrationLock, status=204),
        ),
        Route(
            "DELETE",
            "/v1/accounts/registration_lock",
            remove_lock,
            Doc("Remove the registration lock; from the primary device", status=204),
        ),
        Route(
            "PUT",
            "/v1/accounts/name",
            set_name,
            Doc(
                "Set the encrypted name of a device",
                takes=DeviceName,
                status=204,
                raises=(Forbidden, NotFound),
                query={"deviceId": "the device, by default the calling one"},
            ),
        ),
        Route(
            "PUT",
            "/v2/accounts/phone_number_discoverability",
            set_discoverable,
            Doc("Say whether others may find the account by its number", takes=Discoverability, status=204),
        ),
        Route(
            "DELETE",
            "/v1/accounts/me",
            delete_account,
            Doc("Delete the account and everything in it; from the primary device", status=204),
        ),
        Route(
            "GET",
            "/v2/accounts/data_report",
            data_report,
            Doc("Everything that the relay holds on the calling account", gives=DataReport),
        ),
    ]
