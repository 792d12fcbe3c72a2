"""JSON of usernames, which the relay knows as hashes only (Signal-Server, ``AccountController`` and its entities)."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from messaging.wire.json import Base64Url, Entity
from messaging.wire.limits import MAX_ENCRYPTED_USERNAME, MAX_USERNAME_HASHES, MAX_USERNAME_PROOF, USERNAME_HASH

UsernameHash = Annotated[Base64Url, Field(min_length=USERNAME_HASH, max_length=USERNAME_HASH)]
EncryptedName = Annotated[Base64Url, Field(min_length=1, max_length=MAX_ENCRYPTED_USERNAME)]


class ReserveUsernameHashRequest(Entity):
    """``PUT /v1/accounts/username_hash/reserve``: the first hash that is free is reserved."""

    username_hashes: Annotated[
        tuple[UsernameHash, ...], Field(min_length=1, max_length=MAX_USERNAME_HASHES, repr=False)
    ]


class ReserveUsernameHashResponse(Entity):
    """Which one it was."""

    username_hash: Annotated[UsernameHash, Field(repr=False)]


class ConfirmUsernameHashRequest(Entity):
    """``PUT /v1/accounts/username_hash/confirm``. The proof is not verified here: that needs libsignal."""

    username_hash: Annotated[UsernameHash, Field(repr=False)]
    zk_proof: Annotated[Base64Url, Field(min_length=1, max_length=MAX_USERNAME_PROOF, repr=False)]
    encrypted_username: Annotated[EncryptedName | None, Field(repr=False)] = None


class UsernameHashResponse(Entity):
    """The confirmed hash, and the handle of its link if there is one."""

    username_hash: Annotated[UsernameHash, Field(repr=False)]
    username_link_handle: UUID | None = None


class EncryptedUsername(Entity):
    """``PUT /v1/accounts/username_link``, and what ``GET /v1/accounts/username_link/{handle}`` answers."""

    username_link_encrypted_value: Annotated[EncryptedName, Field(repr=False)]
    keep_link_handle: bool | None = None


class UsernameLinkHandle(Entity):
    """The handle of a username link."""

    username_link_handle: UUID
