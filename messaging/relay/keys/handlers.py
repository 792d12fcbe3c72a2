"""``/v2/keys``."""

from messaging.relay.accounts.access import access_key_of
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.errors import InvalidRequest, InvalidSignedKey, KeysDiffer, MalformedRequest, NotFound
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Doc, Route, answer_with
from messaging.relay.keys.service import KeyService
from messaging.wire.identifiers import IdentityKind, parse_device_id
from messaging.wire.keys import ALL_DEVICES, CheckKeysRequest, PreKeyCount, PreKeyResponse, SetKeysRequest, SignedPreKey

_IDENTITY = {"identity": "`aci` or `pni`, by default `aci`"}


def key_routes(keys: KeyService, authentication: Authentication) -> list[Route]:
    """The routes of prekeys."""

    async def put_keys(call: Call) -> Answer:
        owner = await authentication.require(call)
        await keys.upload(call.entity(SetKeysRequest), owner, call.identity())
        return NO_CONTENT

    async def put_signed(call: Call) -> Answer:
        owner = await authentication.require(call)
        await keys.upload(SetKeysRequest(signed_pre_key=call.entity(SignedPreKey)), owner, call.identity())
        return NO_CONTENT

    async def get_count(call: Call) -> Answer:
        owner = await authentication.require(call)
        return answer_with(await keys.count(owner, call.identity()))

    async def check(call: Call) -> Answer:
        owner = await authentication.require(call)
        asked = call.entity(CheckKeysRequest)
        await keys.check(owner, IdentityKind(asked.identity_type.lower()), asked.digest)
        return Answer(200)

    async def get_bundles(call: Call) -> Answer:
        caller = await authentication.find(call)
        device = call.parameters["device_id"]
        found = await keys.fetch(
            call.service_id(),
            None if device == ALL_DEVICES else parse_device_id(device),
            caller=caller,
            access_key=access_key_of(call),
        )
        return answer_with(found)

    return [
        Route(
            "PUT",
            "/v2/keys",
            put_keys,
            Doc(
                "Upload prekeys; what is present replaces what was stored",
                takes=SetKeysRequest,
                status=204,
                raises=(MalformedRequest, InvalidSignedKey),
                query=_IDENTITY,
            ),
        ),
        Route(
            "GET",
            "/v2/keys",
            get_count,
            Doc("How many one-time prekeys are left", gives=PreKeyCount, raises=(MalformedRequest,), query=_IDENTITY),
        ),
        Route(
            "PUT",
            "/v2/keys/signed",
            put_signed,
            Doc(
                "Replace the signed EC prekey",
                takes=SignedPreKey,
                status=204,
                raises=(MalformedRequest, InvalidSignedKey),
                query=_IDENTITY,
            ),
        ),
        Route(
            "POST",
            "/v2/keys/check",
            check,
            Doc(
                "Whether the relay has the same repeated-use keys as the device",
                takes=CheckKeysRequest,
                raises=(KeysDiffer, MalformedRequest),
            ),
        ),
        Route(
            "GET",
            "/v2/keys/{service_id}/{device_id}",
            get_bundles,
            Doc(
                "Prekey bundles of one device of an account, or of all (`*`)",
                access=Access.DEVICE_OR_KEY,
                gives=PreKeyResponse,
                raises=(NotFound, InvalidRequest),
            ),
        ),
    ]
