"""JSON of attachments (Signal-Server, ``AttachmentControllerV4`` and ``AttachmentDescriptorV3``)."""

from typing import Annotated

from pydantic import Field

from messaging.wire.json import Entity

TUS_CDN = 3  # the number by which clients know that an upload follows the tus protocol


class UploadForm(Entity):
    """``GET /v4/attachments/form/upload``: where to upload, with which headers, and the key to download by."""

    cdn: int
    key: Annotated[str, Field(repr=False)]
    headers: Annotated[dict[str, str], Field(repr=False)]
    signed_upload_location: str
