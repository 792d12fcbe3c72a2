"""``/v4/attachments``: permission to upload."""

import base64
from collections.abc import Callable

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.attachments.service import AttachmentService
from messaging.relay.errors import MalformedRequest, TooLarge
from messaging.relay.http import Answer, Call, Doc, Route, answer_with
from messaging.wire.attachments import TUS_CDN, UploadForm

UPLOADS_PATH = "/upload/attachments"


def attachment_routes(
    attachments: AttachmentService, authentication: Authentication, public_url: Callable[[], str]
) -> list[Route]:
    """The route of upload forms. ``public_url`` is where clients reach the relay over HTTP."""

    async def get_form(call: Call) -> Answer:
        caller = await authentication.require(call)
        length = call.number("uploadLength", 0) if "uploadLength" in call.query else None
        if length == 0:
            raise MalformedRequest
        permission = await attachments.permit(caller, length)
        name = base64.b64encode(permission.key.encode()).decode()
        headers = {"Authorization": f"Bearer {permission.token}", "Upload-Metadata": f"filename {name}"}
        location = public_url() + UPLOADS_PATH
        form = UploadForm(cdn=TUS_CDN, key=permission.key, headers=headers, signed_upload_location=location)
        return answer_with(form)

    return [
        Route(
            "GET",
            "/v4/attachments/form/upload",
            get_form,
            Doc(
                "Permission to upload an attachment, with where and how",
                gives=UploadForm,
                raises=(MalformedRequest, TooLarge),
                query={"uploadLength": "bytes, at most the largest attachment"},
            ),
        )
    ]
