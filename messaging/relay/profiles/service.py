"""Setting and fetching profiles, and comparing identity keys."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from messaging.relay.accounts.access import check_access
from messaging.relay.accounts.tables import Account, device_details, find_account, find_accounts, lock_account_by_id
from messaging.relay.attachments.service import AttachmentService, Permission
from messaging.relay.database import Database
from messaging.relay.errors import NotAuthenticated, NotFound
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.profiles.tables import StoredProfile, drop_oldest, find_profile, replace_profile
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import MAX_AVATAR
from messaging.wire.profiles import ChangedIdentity, CreateProfileRequest, IdentityCheck, Profile

# Capabilities that others may see (Signal-Server, ``DeviceCapability``).
PUBLIC_CAPABILITIES = ("spqr",)
FINGERPRINT = 4
_VERSION = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class ProfileService:
    """Keeps profiles. ``now`` gives milliseconds since 1970."""

    database: Database
    attachments: AttachmentService
    limits: RateLimits
    now: Callable[[], int]

    async def put(self, caller: Caller, request: CreateProfileRequest) -> Permission | None:
        """Set one version of the caller's profile; permission to upload the avatar, if there is a new one.

        Raises:
            NotAuthenticated: the account is gone.
            RateLimited: too many bytes of avatars.
        """
        wants_avatar = request.avatar and not request.same_avatar
        permission = await self.attachments.permit_lasting(caller, max_length=MAX_AVATAR) if wants_avatar else None
        version = request.version.lower()
        async with self.database.begin() as db:
            if await lock_account_by_id(db, caller.account_id) is None:
                raise NotAuthenticated
            before = await find_profile(db, caller.account_id, version)
            old = None if before is None else before.avatar
            avatar = permission.key if permission else old if request.avatar else None
            await replace_profile(db, caller.account_id, version, _stored(request, avatar), now=self.now())
            await drop_oldest(db, caller.account_id)
        return permission

    async def get(
        self, target: ServiceId, version: str | None, *, caller: Caller | None, access_key: bytes | None, remote: str
    ) -> Profile:
        """The profile of an account, with the parts of one version.

        Raises:
            NotFound, NotAuthenticated: see ``accounts.access``.
            RateLimited: too many fetches.
        """
        if caller is None:
            await self.limits.take(Limit.PROFILE, remote)
        else:
            await self.limits.take(Limit.PROFILE, caller.account_id, account=caller.account_id, bot=caller.is_bot)
        async with self.database.read() as db:
            account = await find_account(db, target)
            check_access(account, target, caller=caller, access_key=access_key)
            if account is None:
                raise NotFound
            devices = await device_details(db, account.id)
            versioned = target.kind is IdentityKind.ACI and _VERSION.fullmatch(version or "") is not None
            found = await find_profile(db, account.id, str(version).lower()) if versioned else None
        capabilities = {
            name: bool(devices) and all(device.capabilities.get(name, False) for device in devices)
            for name in PUBLIC_CAPABILITIES
        }
        return _describe(account, target, capabilities, found)

    async def check_identities(self, checks: tuple[IdentityCheck, ...], *, remote: str) -> list[ChangedIdentity]:
        """Those of the identities whose key is not the one with the fingerprint.

        Raises:
            RateLimited: too many checks.
        """
        await self.limits.take(Limit.BATCH_IDENTITY_CHECK, remote)
        fingerprints = {}
        for check in checks:
            try:
                fingerprints[ServiceId.parse(check.uuid)] = check.fingerprint
            except MalformedField:
                continue  # as one that does not exist
        async with self.database.read() as db:
            accounts = await find_accounts(db, fingerprints)
        keys = {service_id: account.identity_key(service_id.kind) for service_id, account in accounts.items()}
        return [
            ChangedIdentity(uuid=str(service_id), identity_key=key)
            for service_id, key in keys.items()
            if key is not None and sha256(key).digest()[:FINGERPRINT] != fingerprints[service_id]
        ]


def _stored(request: CreateProfileRequest, avatar: str | None) -> StoredProfile:
    return StoredProfile(
        commitment=request.commitment,
        name=request.name,
        about=request.about or None,
        about_emoji=request.about_emoji or None,
        payment_address=request.payment_address or None,
        phone_number_sharing=request.phone_number_sharing or None,
        avatar=avatar,
    )


def _describe(
    account: Account, target: ServiceId, capabilities: dict[str, bool], stored: StoredProfile | None
) -> Profile:
    identity_key = account.identity_key(target.kind)
    if identity_key is None:
        raise NotFound
    of_account = target.kind is IdentityKind.ACI
    key = account.access_key if of_account else None
    profile = Profile(
        identity_key=identity_key,
        unidentified_access=hmac.digest(key, bytes(32), sha256) if key else None,
        unrestricted_unidentified_access=account.unrestricted_access and of_account,
        capabilities=capabilities if of_account else {},
        uuid=str(target),
        bot=account.is_bot or None,
    )
    if stored is None:
        return profile
    return profile.model_copy(
        update={
            "name": stored.name,
            "about": stored.about,
            "about_emoji": stored.about_emoji,
            "avatar": stored.avatar,
            "payment_address": stored.payment_address,
            "phone_number_sharing": stored.phone_number_sharing,
        }
    )
