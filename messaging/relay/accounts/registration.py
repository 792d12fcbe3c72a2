"""Registration: a new account, or the same account with a new primary device in place of all that was there.

A registration takes effect in one transaction: account, device, mailbox and prekeys, or nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.authentication import day_of
from messaging.relay.accounts.invites import Role
from messaging.relay.accounts.locks import check_lock, check_recovery_password, lock_columns, recovery_columns
from messaging.relay.accounts.passwords import hash_password
from messaging.relay.accounts.service import VerificationService
from messaging.relay.accounts.tables import (
    Account,
    account_details,
    delete_devices,
    devices_of,
    exhume,
    insert_account,
    insert_device,
    lock_account,
    mailbox_ids,
    update_account,
)
from messaging.relay.accounts.usernames import release_username
from messaging.relay.accounts.verification import Verification
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import CredentialsReplaced, Wakeups
from messaging.relay.errors import (
    AccountSuspended,
    Forbidden,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
)
from messaging.relay.http import Credentials
from messaging.relay.keys.service import store_keys
from messaging.relay.keys.signatures import check_identity_key, check_prekeys
from messaging.relay.keys.tables import KeyOwner
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.messages.tables import create_mailbox, delete_mailboxes, lock_mailboxes
from messaging.relay.profiles.tables import delete_profiles
from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import AccountCreationResponse, RegistrationRequest, is_e164
from messaging.wire.identifiers import PRIMARY_DEVICE, IdentityKind
from messaging.wire.keys import SetKeysRequest


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a registration made. ``replaced`` names the mailboxes of the devices that are gone."""

    aci: UUID
    pni: UUID | None
    is_bot: bool
    reregistration: bool
    replaced: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RegistrationService:
    """Registers accounts. ``now`` gives milliseconds since 1970."""

    database: Database
    verification: VerificationService
    wakeups: Wakeups
    secret: ServerSecret
    limits: RateLimits
    now: Callable[[], int]
    new_uuid: Callable[[], UUID] = uuid4

    async def register(self, request: RegistrationRequest, credentials: Credentials) -> AccountCreationResponse:
        """Register the account of a number, which a verification session or the recovery password has proved.

        Raises:
            InvalidRequest: no number, no PNI, or neither session nor recovery password, or both.
            InvalidSignedKey: a prekey that the identity key did not sign.
            Forbidden: the recovery password is not the account's.
            RegistrationLocked: the account has a registration lock, and it was not given.
            AccountSuspended: an operator has suspended the account.
            RateLimited: too many registrations of this number, or locks and passwords tried.
            NotAuthenticated: the session does not exist, is not verified, or does not prove enough for an account that exists.
            MalformedRequest: the session is another number's.
        """
        number = credentials.username
        if not is_e164(number):
            raise InvalidRequest("number")
        if request.pni_identity_key is None:
            raise InvalidRequest("pniIdentityKey")
        check_registration_keys(request)
        number_hash = self.secret.number_hash(number)
        await self.limits.take(Limit.REGISTRATION, number_hash)
        if request.recovery_password or request.account_attributes.registration_lock:
            await self.limits.take(Limit.PIN, number_hash)
        if request.recovery_password is not None and request.session_id is not None:
            raise InvalidRequest("sessionId", "recoveryPassword")
        enrolled = await self.enrol(request, credentials.password, number_hash=number_hash)
        return AccountCreationResponse(
            uuid=enrolled.aci,
            number=number,
            pni=enrolled.pni,
            bot=enrolled.is_bot or None,
            reregistration=enrolled.reregistration,
        )

    async def register_assistant(
        self, name: str, request: RegistrationRequest, credentials: Credentials
    ) -> AccountCreationResponse:
        """Register the account of an assistant; who may do so is for the caller to know.

        Raises:
            InvalidRequest: what belongs to a number, or credentials of another name.
            InvalidSignedKey: a prekey that the identity key did not sign.
        """
        if request.session_id is not None or request.recovery_password is not None:
            raise InvalidRequest("sessionId")
        if request.pni_identity_key is not None:
            raise InvalidRequest("pniIdentityKey")
        if credentials.username != name:
            raise InvalidRequest("name")
        check_registration_keys(request)
        enrolled = await self.enrol(request, credentials.password, assistant_name=name)
        return AccountCreationResponse(uuid=enrolled.aci, reregistration=enrolled.reregistration)

    async def enrol(
        self,
        request: RegistrationRequest,
        password: str,
        *,
        number_hash: bytes | None = None,
        assistant_name: str | None = None,
    ) -> Enrolled:
        """Create the account, or replace everything in it but its ids; then tell the sockets of what is gone."""
        owner = {"number_hash": number_hash, "assistant_name": assistant_name}
        try:
            enrolled = await self._enrol(request, password, owner)
        except IntegrityError:
            # Somebody else registered the same number or name just now: this one comes second, and replaces it.
            enrolled = await self._enrol(request, password, owner)
        for mailbox_id in enrolled.replaced:
            self.wakeups.announce(mailbox_id, CredentialsReplaced())
        return enrolled

    async def _enrol(self, request: RegistrationRequest, password: str, owner: dict[str, Any]) -> Enrolled:
        async with self.database.begin() as db:
            proof = None if owner["number_hash"] is None else await self._proof(db, request, owner["number_hash"])
            existing = await lock_account(db, **owner)
            if proof is not None and not proof.may_register(None if existing is None else existing.id):
                raise NotAuthenticated
            role = _role_of(existing, proof)
            columns = _account_columns(request) | ({} if role is None else {"role": role})
            replaced: tuple[int, ...] = ()
            if existing is None:
                if request.recovery_password is not None:
                    raise Forbidden
                aci, pni = await self._new_identifiers(db, request, owner["number_hash"], proof)
                values = {"aci": aci, "pni": pni, **owner, **columns}
                account_id = await insert_account(db, {**values, "created_on": day_of(self.now())})
            else:
                await self._check_proofs(db, existing, request)
                if existing.is_suspended:  # registering it again lifts nothing, and what waits for it stays
                    raise AccountSuspended
                aci, pni, account_id = existing.aci, existing.pni, existing.id
                await update_account(db, account_id, columns)
                await delete_profiles(db, account_id)  # encrypted under keys that the new registration need not have
                await release_username(db, account_id, now=self.now())
                replaced = await _remove_devices(db, account_id)
            if proof is not None:
                await self.verification.note_account(db, proof, account_id)
            await _add_primary_device(db, account_id, request, password, today=day_of(self.now()))
        return Enrolled(aci, pni, role == Role.BOT, existing is not None, replaced)

    async def _new_identifiers(
        self, db: AsyncConnection, request: RegistrationRequest, number_hash: bytes | None, proof: Verification | None
    ) -> tuple[UUID, UUID | None]:
        # Who did not prove the number is nobody's heir: a deleted account's ids are for who has its number.
        proved = number_hash is not None and proof is not None and not proof.new_account_only
        buried = await exhume(db, number_hash, now=self.now()) if proved and number_hash is not None else None
        if buried is not None:
            return buried
        return self.new_uuid(), self.new_uuid() if request.pni_identity_key else None

    async def _check_proofs(self, db: AsyncConnection, existing: Account, request: RegistrationRequest) -> None:
        details = await account_details(db, existing.id)
        if details is None:
            raise NotFound
        if request.recovery_password is not None:
            check_recovery_password(details, request.recovery_password)
        check_lock(details, request.account_attributes.registration_lock, self.now())

    async def _proof(
        self, db: AsyncConnection, request: RegistrationRequest, number_hash: bytes
    ) -> Verification | None:
        """The session that the request names, locked; ``None`` where the recovery password takes its place."""
        if request.recovery_password is not None:
            return None
        if not request.session_id:
            raise InvalidRequest("sessionId")
        try:
            found = await self.verification.find(db, request.session_id)
        except NotFound:
            raise NotAuthenticated from None
        if found.number_hash != number_hash:
            raise MalformedRequest
        return found.state


def check_registration_keys(request: RegistrationRequest) -> None:
    """Check each identity key, and that it signed its prekeys.

    Raises:
        InvalidSignedKey: one of them is wrong.
    """
    check_identity_key(request.aci_identity_key)
    check_prekeys(request.aci_identity_key, (request.aci_signed_pre_key, request.aci_pq_last_resort_pre_key))
    if request.pni_identity_key is not None:
        of_pni = (request.pni_signed_pre_key, request.pni_pq_last_resort_pre_key)
        check_identity_key(request.pni_identity_key)
        check_prekeys(request.pni_identity_key, (key for key in of_pni if key is not None))


async def _remove_devices(db: AsyncConnection, account_id: int) -> tuple[int, ...]:
    mailboxes = mailbox_ids(await devices_of(db, account_id))
    await lock_mailboxes(db, mailboxes)
    await delete_devices(db, account_id)
    await delete_mailboxes(db, mailboxes)
    return tuple(mailboxes)


async def _add_primary_device(
    db: AsyncConnection, account_id: int, request: RegistrationRequest, password: str, *, today: int
) -> None:
    attributes, hashed = request.account_attributes, hash_password(password)
    await insert_device(
        db,
        {
            "account_id": account_id,
            "device_id": PRIMARY_DEVICE,
            "mailbox_id": await create_mailbox(db),
            "registration_id": attributes.registration_id,
            "pni_registration_id": attributes.pni_registration_id,
            "password_salt": hashed.salt,
            "password_hash": hashed.digest,
            "name": attributes.name,
            "capabilities": attributes.capabilities,
            "created_on": today,
            "seen_on": today,
        },
    )
    aci_keys = SetKeysRequest(
        signed_pre_key=request.aci_signed_pre_key, pq_last_resort_pre_key=request.aci_pq_last_resort_pre_key
    )
    pni_keys = SetKeysRequest(
        signed_pre_key=request.pni_signed_pre_key, pq_last_resort_pre_key=request.pni_pq_last_resort_pre_key
    )
    await store_keys(db, KeyOwner(account_id, PRIMARY_DEVICE, IdentityKind.ACI), aci_keys)
    await store_keys(db, KeyOwner(account_id, PRIMARY_DEVICE, IdentityKind.PNI), pni_keys)


def _role_of(existing: Account | None, proof: Verification | None) -> str | None:
    """The role that an account has from now on; ``None`` is the default one."""
    granted = None if proof is None else proof.role
    if existing is None:
        return granted
    # Whom others know as a bot is one for good: else a person's invite would take the mark off.
    return existing.role if granted is None or existing.is_bot else granted


def _account_columns(request: RegistrationRequest) -> dict[str, Any]:
    attributes = request.account_attributes
    return {
        "aci_identity_key": request.aci_identity_key,
        "pni_identity_key": request.pni_identity_key,
        "access_key": attributes.unidentified_access_key,
        "unrestricted_access": attributes.unrestricted_unidentified_access,
        "discoverable": attributes.discoverable_by_phone_number,
        "accepting": True,  # whoever said that it drains is replaced
        **lock_columns(attributes.registration_lock),
        **recovery_columns(attributes.recovery_password),
    }
