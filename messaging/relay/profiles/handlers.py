"""``/v1/profile``."""

import base64
from collections.abc import Callable

from messaging.relay.accounts.access import access_key_of
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.attachments.handlers import UPLOADS_PATH
from messaging.relay.errors import NotFound, NotSupported
from messaging.relay.http import Access, Answer, Call, Doc, Route, answer_with
from messaging.relay.profiles.service import ProfileService
from messaging.wire.attachments import TUS_CDN
from messaging.wire.profiles import (
    AvatarForm,
    BatchIdentityCheckRequest,
    BatchIdentityCheckResponse,
    CreateProfileRequest,
    Profile,
)


def profile_routes(
    profiles: ProfileService, authentication: Authentication, public_url: Callable[[], str]
) -> list[Route]:
    """The routes of profiles. ``public_url`` is where clients reach the relay over HTTP."""

    async def put_profile(call: Call) -> Answer:
        caller = await authentication.require(call)
        permission = await profiles.put(caller, call.entity(CreateProfileRequest))
        if permission is None:
            return Answer(200)
        name = base64.b64encode(permission.key.encode()).decode()
        headers = {"Authorization": f"Bearer {permission.token}", "Upload-Metadata": f"filename {name}"}
        location = public_url() + UPLOADS_PATH
        return answer_with(
            AvatarForm(cdn=TUS_CDN, key=permission.key, headers=headers, signed_upload_location=location)
        )

    async def get_profile(call: Call) -> Answer:
        caller = await authentication.find(call)
        found = await profiles.get(
            call.service_id(),
            call.parameters.get("version"),
            caller=caller,
            access_key=access_key_of(call),
            remote=call.remote,
        )
        return answer_with(found)

    async def get_credential(_call: Call) -> Answer:
        raise NotSupported

    async def check_identities(call: Call) -> Answer:
        checks = call.entity(BatchIdentityCheckRequest).elements
        changed = await profiles.check_identities(checks, remote=call.remote)
        return answer_with(BatchIdentityCheckResponse(elements=tuple(changed)))

    return [
        Route(
            "PUT",
            "/v1/profile",
            put_profile,
            Doc(
                "Set one version of the profile; a form if an avatar is to be uploaded",
                takes=CreateProfileRequest,
                gives=AvatarForm,
                empty_too=True,
            ),
        ),
        Route(
            "GET",
            "/v1/profile/{service_id}",
            get_profile,
            Doc(
                "A profile, with what is encrypted under one version",
                access=Access.DEVICE_OR_KEY,
                gives=Profile,
                raises=(NotFound,),
            ),
        ),
        Route(
            "GET",
            "/v1/profile/{service_id}/{version}",
            get_profile,
            Doc(
                "A profile, with what is encrypted under one version",
                access=Access.DEVICE_OR_KEY,
                gives=Profile,
                raises=(NotFound,),
            ),
        ),
        Route(
            "GET",
            "/v1/profile/{service_id}/{version}/{credential_request}",
            get_credential,
            Doc(
                "Not supported: a profile key credential needs zero-knowledge group secrets",
                access=Access.DEVICE_OR_KEY,
                raises=(NotSupported,),
            ),
        ),
        Route(
            "POST",
            "/v1/profile/identity_check/batch",
            check_identities,
            Doc(
                "Which of these identities have another key than the caller knows",
                access=Access.ANYONE,
                takes=BatchIdentityCheckRequest,
                gives=BatchIdentityCheckResponse,
            ),
        ),
    ]
