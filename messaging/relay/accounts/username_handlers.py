"""``/v1/accounts/username_hash``, ``/v1/accounts/username_link`` and ``/v1/accounts/account``."""

from uuid import UUID

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.usernames import UsernameService
from messaging.relay.errors import Conflict, Gone, InvalidRequest, MalformedRequest, NotFound
from messaging.relay.http import NO_CONTENT, Access, Answer, Call, Doc, Route, answer_with
from messaging.wire.json import decode_base64
from messaging.wire.limits import USERNAME_HASH
from messaging.wire.profiles import AccountIdentifier
from messaging.wire.usernames import (
    ConfirmUsernameHashRequest,
    EncryptedUsername,
    ReserveUsernameHashRequest,
    ReserveUsernameHashResponse,
    UsernameHashResponse,
    UsernameLinkHandle,
)

_HASH, _LINK = "/v1/accounts/username_hash", "/v1/accounts/username_link"


def username_routes(usernames: UsernameService, authentication: Authentication) -> list[Route]:
    """The routes of usernames. Look-ups are for callers who do not say who they are."""

    async def reserve(call: Call) -> Answer:
        caller = await authentication.require(call)
        hashes = call.entity(ReserveUsernameHashRequest).username_hashes
        return answer_with(ReserveUsernameHashResponse(username_hash=await usernames.reserve(caller, hashes)))

    async def confirm(call: Call) -> Answer:
        caller = await authentication.require(call)
        wanted = call.entity(ConfirmUsernameHashRequest)
        return answer_with(await usernames.confirm(caller, wanted.username_hash, wanted.encrypted_username))

    async def release(call: Call) -> Answer:
        await usernames.release(await authentication.require(call))
        return NO_CONTENT

    async def find(call: Call) -> Answer:
        refuse_authenticated(call)
        found = await usernames.find(hash_of(call), remote=call.remote)
        return answer_with(AccountIdentifier(uuid=found))

    async def set_link(call: Call) -> Answer:
        caller = await authentication.require(call)
        wanted = call.entity(EncryptedUsername)
        value, keep = wanted.username_link_encrypted_value, bool(wanted.keep_link_handle)
        handle = await usernames.set_link(caller, value, keep_handle=keep)
        return answer_with(UsernameLinkHandle(username_link_handle=handle))

    async def delete_link(call: Call) -> Answer:
        await usernames.delete_link(await authentication.require(call))
        return NO_CONTENT

    async def find_link(call: Call) -> Answer:
        refuse_authenticated(call)
        try:
            handle = UUID(call.parameters["handle"])
        except ValueError:
            raise InvalidRequest("handle") from None
        found = await usernames.find_link(handle, remote=call.remote)
        return answer_with(EncryptedUsername(username_link_encrypted_value=found))

    async def exists(call: Call) -> Answer:
        refuse_authenticated(call)
        await usernames.account_exists(call.service_id(), remote=call.remote)
        return Answer(200)

    return [
        Route(
            "PUT",
            f"{_HASH}/reserve",
            reserve,
            Doc(
                "Reserve the first free one of several username hashes",
                takes=ReserveUsernameHashRequest,
                gives=ReserveUsernameHashResponse,
                raises=(Conflict,),
            ),
        ),
        Route(
            "PUT",
            f"{_HASH}/confirm",
            confirm,
            Doc(
                "Make a reserved hash the account's username",
                takes=ConfirmUsernameHashRequest,
                gives=UsernameHashResponse,
                raises=(Conflict, Gone),
            ),
        ),
        Route("DELETE", _HASH, release, Doc("Give the username up", status=204)),
        Route(
            "GET",
            f"{_HASH}/{{username_hash}}",
            find,
            Doc(
                "The account with a username",
                access=Access.NOBODY_KNOWN,
                gives=AccountIdentifier,
                raises=(NotFound, MalformedRequest, InvalidRequest),
            ),
        ),
        Route(
            "PUT",
            _LINK,
            set_link,
            Doc("Set the link of the username", takes=EncryptedUsername, gives=UsernameLinkHandle, raises=(Conflict,)),
        ),
        Route("DELETE", _LINK, delete_link, Doc("Remove the link of the username", status=204)),
        Route(
            "GET",
            f"{_LINK}/{{handle}}",
            find_link,
            Doc(
                "What a username link gives",
                access=Access.NOBODY_KNOWN,
                gives=EncryptedUsername,
                raises=(NotFound, MalformedRequest, InvalidRequest),
            ),
        ),
        Route(
            "HEAD",
            "/v1/accounts/account/{service_id}",
            exists,
            Doc(
                "Whether there is an account with this identity",
                access=Access.NOBODY_KNOWN,
                raises=(NotFound, MalformedRequest),
            ),
        ),
    ]


def refuse_authenticated(call: Call) -> None:
    """A look-up must not say who asks (Signal-Server).

    Raises:
        MalformedRequest: it does.
    """
    if call.caller is not None or "authorization" in call.headers:
        raise MalformedRequest


def hash_of(call: Call) -> bytes:
    """The path's ``{username_hash}``.

    Raises:
        InvalidRequest: not base64 for addresses, or not 32 bytes.
    """
    text = call.parameters["username_hash"]
    try:
        found = decode_base64(text.replace("-", "+").replace("_", "/"))
    except ValueError:
        raise InvalidRequest("usernameHash") from None
    if len(found) != USERNAME_HASH:
        raise InvalidRequest("usernameHash")
    return found
