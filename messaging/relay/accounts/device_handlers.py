"""``/v1/devices`` and ``/v1/provisioning``."""

from messaging.relay.accounts.account import AccountService, info_of
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.linking import LinkingService
from messaging.relay.errors import (
    CapabilityMissing,
    Forbidden,
    InvalidRequest,
    InvalidSignedKey,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
    TooManyDevices,
)
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Doc, Route, answer_with
from messaging.wire.accounts import (
    DeviceInfo,
    DeviceInfoList,
    LinkDeviceRequest,
    LinkDeviceResponse,
    LinkDeviceToken,
    ProvisioningMessage,
    read_capabilities,
)
from messaging.wire.identifiers import parse_device_id
from messaging.wire.json import decode_base64


def device_routes(accounts: AccountService, linking: LinkingService, authentication: Authentication) -> list[Route]:
    """The routes of an account's devices, and of adding one."""

    async def get_devices(call: Call) -> Answer:
        devices = await accounts.devices(await authentication.require(call))
        return answer_with(DeviceInfoList(devices=tuple(map(info_of, devices))))

    async def remove_device(call: Call) -> Answer:
        caller = await authentication.require(call)
        await accounts.remove_device(caller, parse_device_id(call.parameters["device_id"]))
        return NO_CONTENT

    async def set_capabilities(call: Call) -> Answer:
        caller = await authentication.require(call)
        await accounts.set_capabilities(caller, read_capabilities(call.body))
        return NO_CONTENT

    async def get_token(call: Call) -> Answer:
        return answer_with(await linking.create_token(await authentication.require(call)))

    async def link(call: Call) -> Answer:
        credentials = call.credentials()
        if credentials is None:
            raise NotAuthenticated
        return answer_with(await linking.link(call.entity(LinkDeviceRequest), credentials.password))

    async def wait_for_device(call: Call) -> Answer:
        caller = await authentication.require(call)
        seconds = call.number("timeout", 30)
        device = await linking.wait_for_device(caller, call.parameters["token_identifier"], seconds)
        return NO_CONTENT if device is None else answer_with(info_of(device))

    async def leave_message(call: Call) -> Answer:
        caller = await authentication.require(call)
        body = call.entity(ProvisioningMessage).body
        try:
            message = decode_base64("".join(body.split()))
        except ValueError:
            raise InvalidRequest("body") from None
        await linking.leave(caller, call.parameters["address"], message)
        return NO_CONTENT

    return [
        Route("GET", "/v1/devices", get_devices, Doc("The devices of the calling account", gives=DeviceInfoList)),
        Route(
            "DELETE",
            "/v1/devices/{device_id}",
            remove_device,
            Doc("Remove a linked device", status=204, raises=(Forbidden, InvalidRequest)),
        ),
        Route(
            "PUT",
            "/v1/devices/capabilities",
            set_capabilities,
            Doc("Replace the capabilities of the calling device", takes=dict, status=204),
        ),
        Route(
            "GET",
            "/v1/devices/provisioning/code",
            get_token,
            Doc(
                "A token that links one device, for ten minutes; from the primary device",
                gives=LinkDeviceToken,
                raises=(TooManyDevices,),
            ),
        ),
        Route(
            "PUT",
            "/v1/devices/link",
            link,
            Doc(
                "Link a new device with a token",
                access=Access.NEW_DEVICE,
                takes=LinkDeviceRequest,
                gives=LinkDeviceResponse,
                raises=(Forbidden, CapabilityMissing, TooManyDevices, InvalidSignedKey),
            ),
        ),
        Route(
            "GET",
            "/v1/devices/wait_for_linked_device/{token_identifier}",
            wait_for_device,
            Doc(
                "Wait until a token was used; 204 if it was not",
                gives=DeviceInfo,
                also=(204,),
                raises=(MalformedRequest,),
                query={"timeout": "seconds to wait, 1 to 3600, by default 30"},
            ),
        ),
        Route(
            "PUT",
            "/v1/provisioning/{address}",
            leave_message,
            Doc(
                "Leave one message for a device that waits at a provisioning address",
                takes=ProvisioningMessage,
                status=204,
                raises=(NotFound,),
            ),
        ),
    ]
