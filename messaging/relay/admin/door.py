"""Coming in and going out: everything about signing in that is not the web, each change in one transaction with its audit entry.

Ways in. A **passkey** is the usual one, and gives the operator's role. The company's **provider** (OpenID Connect) does so too, for whom it
was bound to beforehand. A **recovery code**, with a time-based code if the operator has set that up, gives a sign-in of fifteen minutes
that permits one thing: to add a passkey. It ends all others of the operator, who has perhaps lost a device; and when the passkey is
there it ends, too, so that whatever is done is done by somebody who came with a passkey.

What an operator signs in with is changed only shortly after signing in (``SignIn.require_fresh``).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.api_tokens import (
    Token,
    find_token,
    is_token_to_be_noted,
    note_token_used,
    tokens_of,
)
from messaging.relay.admin.audit import Outcome, Said
from messaging.relay.admin.audit_tables import append
from messaging.relay.admin.challenges import ChallengeGone, forget_old_challenges, make_challenge, take_challenge
from messaging.relay.admin.desk import Operator
from messaging.relay.admin.enrolments import (
    Enrolment,
    find_enrolment,
    forget_old_enrolments,
    make_enrolment,
    make_first_enrolment,
    take_enrolment,
)
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere, NotPermitted, NotSignedIn, TooManyTries
from messaging.relay.admin.keeping import Kind, SealBroken, hash_of
from messaging.relay.admin.limits import BEGINNINGS, SECOND_FACTOR_TRIES, SIGN_IN_TRIES
from messaging.relay.admin.operators import (
    TERMINAL,
    OperatorRecord,
    add_operator,
    bind_oidc,
    find_by_name,
    find_by_oidc,
    find_operator,
    free_name,
    is_without_operators,
    lock_operator,
    permitted,
    require_operator,
)
from messaging.relay.admin.passkeys import (
    NewPasskey,
    Passkey,
    add_passkey,
    count_passkeys,
    find_passkey,
    note_used,
    passkeys_of,
    remove_passkey,
)
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.recovery import (
    codes_left,
    matching_step,
    replace_codes,
    seal_pending,
    set_totp,
    unseal_pending,
    use_code,
    use_totp,
    whose_code,
)
from messaging.relay.admin.sign_ins import (
    Method,
    SignIn,
    begin_sign_in,
    end_sign_in,
    end_sign_ins,
    find_sign_in,
    forget_old_sign_ins,
    is_to_be_noted,
    note_seen,
    sign_ins_of,
)
from messaging.relay.admin.tries import count_try, forget_old_tries, give_back, network_of, tries_of_a_day
from messaging.relay.database import Database
from messaging.relay.server_secret import ServerSecret

ENOUGH_PASSKEYS: Final = 2
_CONSOLE: Final = "console"


class NotRight(NotSignedIn):
    """What was shown to sign in is not right. Which part of it is not said."""

    code, sentence = "not_right", "That was not right. Try again."


@dataclass(frozen=True, slots=True)
class Means:
    """What an operator can sign in with, and where they are signed in."""

    passkeys: tuple[Passkey, ...]
    codes_left: int
    has_totp: bool
    has_oidc: bool
    sign_ins: tuple[SignIn, ...]
    tokens: tuple[Token, ...]

    @property
    def is_at_risk(self) -> bool:
        """See :func:`is_at_risk`."""
        return is_at_risk(len(self.passkeys), self.codes_left)


def is_at_risk(passkeys: int, codes: int) -> bool:
    """Whether the loss of one device would lock the operator out: they are urged, on every page, to see to it."""
    return passkeys < ENOUGH_PASSKEYS and codes == 0


@dataclass(frozen=True, slots=True)
class Entered:
    """Somebody who has just signed in. ``value`` is the cookie's."""

    value: str = field(repr=False)
    record: OperatorRecord


@dataclass(frozen=True, slots=True)
class Door:
    """Signing in, by whatever way. ``now`` gives milliseconds since 1970."""

    database: Database
    secret: ServerSecret
    now: Callable[[], int]

    # --- who is it ---

    async def who(self, value: str, *, is_use: bool = True) -> tuple[OperatorRecord, SignIn]:
        """The operator with this cookie. What is no use, such as what a page asks for by itself, prolongs nothing.

        Raises:
            NotSignedIn: nobody, or they are signed in no more, or disabled.
        """
        now = self.now()
        async with self.database.read() as db:
            sign_in = await find_sign_in(db, self.secret, value, now=now)
            record = None if sign_in is None else await find_operator(db, sign_in.operator_id)
        if sign_in is None or record is None or record.disabled_at is not None:
            raise NotSignedIn
        if is_use and is_to_be_noted(sign_in, now):
            async with self.database.begin() as db:
                await note_seen(db, sign_in, now=now)
        return record, sign_in

    async def bearer(self, token: str, address: str, via: str) -> Operator:
        """The operator with this token of the API, who may what the token and their role permit.

        Raises:
            NotSignedIn: there is no such token, it is good no more, or its operator is disabled.
            TooManyTries: too many wrong ones from this address.
        """
        now = self.now()
        async with self.database.read() as db:
            found = await find_token(db, self.secret, token, now=now)
            record = None if found is None else await find_operator(db, found.operator_id)
        if found is None or record is None or record.disabled_at is not None:
            await self._count(self._address(address), SIGN_IN_TRIES, now)
            raise NotSignedIn
        if is_token_to_be_noted(found, now):
            async with self.database.begin() as db:
                await note_token_used(db, found, now=now)
        return Operator(record.id, record.name, permitted(record, found.permissions), via, found.id)

    async def means_of(self, record: OperatorRecord) -> Means:
        """What somebody has, for their own page."""
        now = self.now()
        async with self.database.read() as db:
            return Means(
                passkeys=tuple(await passkeys_of(db, record.id)),
                codes_left=await codes_left(db, record.id),
                has_totp=record.totp_sealed is not None,
                has_oidc=record.oidc_subject is not None,
                sign_ins=tuple(await sign_ins_of(db, record.id, now=now)),
                tokens=tuple(await tokens_of(db, record.id, now=now)),
            )

    async def is_at_risk(self, operator_id: int) -> bool:
        """See :func:`is_at_risk`."""
        async with self.database.read() as db:
            return is_at_risk(await count_passkeys(db, operator_id), await codes_left(db, operator_id))

    # --- ceremonies and tries ---

    async def begin(self, purpose: str, operator_id: int | None, address: str) -> bytes:
        """A challenge of 32 bytes, for one ceremony.

        Raises:
            TooManyTries: this address has begun ``BEGINNINGS`` in this minute.
        """
        now = self.now()
        await self._count(self._who(f"begins {network_of(address)}"), BEGINNINGS, now)
        async with self.database.begin() as db:
            return await make_challenge(db, self.secret, purpose, operator_id, now=now)

    async def take(self, challenge: bytes, purpose: str, operator_id: int | None) -> None:
        """Use a challenge up.

        Raises:
            ChallengeGone: it is not there, or was not made for this.
        """
        async with self.database.begin() as db:
            good = await take_challenge(db, self.secret, challenge, purpose, operator_id, now=self.now())
        if not good:  # and gone all the same
            raise ChallengeGone

    @asynccontextmanager
    async def trying(self, address: str) -> AsyncIterator[None]:
        """Count what is tried in the block from this address; it counts for nothing if the block ends well.

        Raises:
            TooManyTries: ``SIGN_IN_TRIES`` have failed in this minute.
        """
        async with self._trying(self._address(address)):
            yield

    @asynccontextmanager
    async def trying_to_be(self, record: OperatorRecord) -> AsyncIterator[None]:
        """The same, of all who try to be this operator, from wherever."""
        async with self._trying(self._who(f"operator {record.id}")):
            yield

    @asynccontextmanager
    async def _trying(self, who: bytes) -> AsyncIterator[None]:
        now = self.now()
        await self._count(who, SIGN_IN_TRIES, now)
        yield
        await self._uncount(who, now)

    # --- becoming an operator ---

    async def first_code(self) -> str | None:
        """A code for the first owner; ``None`` if there is somebody."""
        async with self.database.begin() as db:
            return await make_first_enrolment(db, self.secret, now=self.now())

    async def invite_by_terminal(self, role: Role | None, name: str | None) -> str:
        """A code made by whoever has the database and the secret file: for somebody new, or for the operator with this name.

        Raises:
            NothingThere: there is no such operator.
            InvalidInput: the first one has to be an owner.
        """
        async with self.database.begin() as db:
            if name is None and role is not Role.OWNER and await is_without_operators(db):
                raise InvalidInput(("role",), "The first operator has to be an owner.")
            number = None if name is None else await _number_of(db, name)
            role = role if number is None else None
            now = self.now()
            code = await make_enrolment(db, self.secret, role=role, operator_id=number, made_by=TERMINAL, now=now)
            subject = "" if number is None else _subject(number)
            detail = {} if role is None else {"role": role.value}
            await self._note(db, TERMINAL, "operators.invite", Outcome.DONE, subject, detail, via=TERMINAL)
        return code

    async def enrolment(self, code: str) -> tuple[Enrolment, OperatorRecord | None]:
        """What a code is good for, and whose passkey it adds, if somebody's.

        Raises:
            EnrolmentGone: nothing.
        """
        async with self.database.read() as db:
            found = await find_enrolment(db, self.secret, code, now=self.now())
            return found, None if found.operator_id is None else await require_operator(db, found.operator_id)

    async def free_name(self, text: str) -> str:
        """See :func:`operators.free_name`."""
        async with self.database.read() as db:
            return await free_name(db, text)

    def handle_of(self, code: str) -> bytes:
        """The user handle of who enrols with this code: nothing has to be kept until they have."""
        return hash_of(self.secret, Kind.HANDLE, code)

    async def enrol(self, code: str, name: str, new: NewPasskey, browser: str) -> Entered:
        """Make somebody an operator, or give an operator another passkey, and sign them in.

        Raises:
            EnrolmentGone: the code is good for nothing.
            InvalidInput, Conflict: a name that cannot be, or is taken; then the code stays good.
        """
        now = self.now()
        async with self.database.begin() as db:
            enrolment = await take_enrolment(db, self.secret, code, now=now)
            if enrolment.operator_id is not None:
                record = await lock_operator(db, enrolment.operator_id)
            else:
                role = enrolment.role or Role.VIEWER
                record = await add_operator(db, handle=self.handle_of(code), name=name, role=role, now=now)
            await add_passkey(db, record.id, new, now=now)
            detail = {"invited by": enrolment.made_by, "role": record.role.value, "new": enrolment.operator_id is None}
            await self._note_of(db, record, "operators.enrol", detail)
            return await self._let_in(db, record, Method.PASSKEY, browser)

    # --- coming in ---

    async def passkey(self, credential_id: bytes) -> tuple[Passkey, OperatorRecord]:
        """A passkey that is kept, and whose it is.

        Raises:
            NotRight: there is none, or its operator is disabled.
        """
        async with self.database.read() as db:
            found = await find_passkey(db, credential_id)
            record = None if found is None else await find_operator(db, found.operator_id)
        if found is None or record is None or record.disabled_at is not None:
            raise NotRight
        return found, record

    async def enter(self, passkey: Passkey, sign_count: int, browser: str, before: SignIn | None = None) -> Entered:
        """Sign in who has proved this passkey; ``sign_count`` is what its authenticator counts. ``before`` ends.

        Raises:
            NotRight: its operator is disabled, or it may be a copy.
        """
        async with self.database.begin() as db:
            record = await find_operator(db, passkey.operator_id)
            if record is None or record.disabled_at is not None:
                raise NotRight
            if not await note_used(db, passkey, sign_count, now=self.now()):
                raise NotRight
            return await self._let_in(db, record, Method.PASSKEY, browser, before)

    async def enter_by_oidc(self, subject: str, browser: str) -> Entered:
        """Sign in whom the company's provider knows.

        Raises:
            NotRight: no operator is bound to this subject.
        """
        async with self.database.begin() as db:
            record = await find_by_oidc(db, subject)
            if record is None or record.disabled_at is not None:
                raise NotRight("No operator here is bound to that account.")
            return await self._let_in(db, record, Method.OIDC, browser)

    async def recover(self, code: str, second: str, address: str, browser: str) -> Entered:
        """Let in who has a recovery code and, if that was set up, the time-based code of now: to add a passkey, and no more.

        Raises:
            NotRight: one of the two is wrong, or was used.
            TooManyTries: too many were wrong.
        """
        async with self.trying(address):
            async with self.database.read() as db:
                operator_id = await whose_code(db, self.secret, code)
                record = None if operator_id is None else await find_operator(db, operator_id)
            if record is None or record.disabled_at is not None:
                raise NotRight
            return await self._recover(record, code, second, browser)

    async def _recover(self, record: OperatorRecord, code: str, second: str, browser: str) -> Entered:
        now, who = self.now(), self._who(f"second factor {record.id}")
        async with self.database.begin() as db:
            await lock_operator(db, record.id)  # of many at once, each counts what those before have tried
            if await tries_of_a_day(db, who, now=now) >= SECOND_FACTOR_TRIES:
                raise TooManyTries("Too many wrong codes in a day. Ask an owner for a link.")
            await count_try(db, who, now=now, limit=SECOND_FACTOR_TRIES)
        try:
            async with self.database.begin() as db:
                is_good = record.totp_sealed is None or await use_totp(db, self.secret, record, second, now=now)
                if not is_good or not await use_code(db, self.secret, code, now=now):
                    raise NotRight  # noqa: TRY301 - this is what rolls back
                await end_sign_ins(db, record.id)
                entered = await self._let_in(db, record, Method.RECOVERY, browser)
        except (NotRight, SealBroken):
            await self.note_refused(record, "recovery")
            raise NotRight from None
        await self._uncount(who, now)
        return entered

    async def note_refused(self, record: OperatorRecord, method: str) -> None:
        """Keep in the audit log that somebody tried to be this operator, and had a part of what it takes."""
        async with self.database.begin() as db:
            detail = {"method": method}
            await self._note(db, record.name, "sign_in.begin", Outcome.REFUSED, _subject(record.id), detail)

    async def _let_in(
        self, db: AsyncConnection, record: OperatorRecord, method: Method, browser: str, before: SignIn | None = None
    ) -> Entered:
        if before is not None:
            await end_sign_in(db, before.operator_id, before.id)
        value = await begin_sign_in(db, self.secret, record.id, method, browser, now=self.now())
        await self._note_of(db, record, "sign_in.begin", {"method": method.value})
        return Entered(value, record)

    # --- going out ---

    async def leave(self, record: OperatorRecord, sign_in: SignIn) -> None:
        """Sign out."""
        await self.end_own(record, sign_in.id)

    async def end_own(self, record: OperatorRecord, sign_in_id: str) -> None:
        """End one of one's own sign-ins.

        Raises:
            NothingThere: it is not one of one's own, or is over.
        """
        async with self.database.begin() as db:
            if not await end_sign_in(db, record.id, sign_in_id):
                raise NothingThere
            await self._note_of(db, record, "sign_in.end", {"sign-in": sign_in_id})

    # --- changing what one signs in with ---

    async def add_own_passkey(self, record: OperatorRecord, sign_in: SignIn, new: NewPasskey) -> None:
        """Keep another passkey. A sign-in by a recovery code has then done what it is for, and ends.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
            Conflict: see ``passkeys.add_passkey``.
        """
        async with self._changing(record, sign_in, "passkeys.add", {"name": new.name}, recovering=True) as db:
            await add_passkey(db, record.id, new, now=self.now())
            if sign_in.method is Method.RECOVERY:
                await end_sign_in(db, record.id, sign_in.id)

    async def remove_own_passkey(self, record: OperatorRecord, sign_in: SignIn, credential_id: bytes) -> None:
        """Forget one of one's own passkeys.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
            NothingThere: it is not one of one's own.
            Conflict: it is the only one.
        """
        async with self._changing(record, sign_in, "passkeys.remove") as db:
            if not await remove_passkey(db, record.id, credential_id):
                raise NothingThere
            if await count_passkeys(db, record.id) == 0:
                raise Conflict("The only passkey stays. Add another one first.")

    async def make_recovery_codes(self, record: OperatorRecord, sign_in: SignIn) -> list[str]:
        """Ten new codes, shown this once; the old ones are worth nothing any more.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
        """
        async with self._changing(record, sign_in, "recovery_codes.make") as db:
            return await replace_codes(db, self.secret, record.id)

    def pending_totp(self, record: OperatorRecord, totp_secret: bytes) -> bytes:
        """A new secret, sealed for the form with which the operator shows that their app has it."""
        return seal_pending(self.secret, totp_secret, record.handle)

    async def confirm_totp(self, record: OperatorRecord, sign_in: SignIn, pending: bytes, code: str) -> None:
        """Ask for time-based codes at recovery from now on.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
            InvalidInput: the code is not the secret's, or the secret not one that was shown to this operator.
        """
        async with self._changing(record, sign_in, "totp.set") as db:
            try:
                totp_secret = unseal_pending(self.secret, pending, record.handle)
            except SealBroken:
                raise InvalidInput(("pending",), "Begin again.") from None
            step = matching_step(totp_secret, code, now=self.now(), after=0)
            if step is None:
                raise InvalidInput(("code",), "That is not the code of now. Is your telephone's clock right?")
            await set_totp(db, self.secret, record, totp_secret, step)

    async def remove_totp(self, record: OperatorRecord, sign_in: SignIn) -> None:
        """Do not ask for time-based codes any more.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
        """
        async with self._changing(record, sign_in, "totp.remove") as db:
            await set_totp(db, self.secret, record, None)

    async def unbind_own_oidc(self, record: OperatorRecord, sign_in: SignIn) -> None:
        """Do not sign in through the company's provider any more.

        Raises:
            NotPermitted: see :meth:`see_may_change`.
        """
        async with self._changing(record, sign_in, "oidc.bind", {"bound": False}) as db:
            await bind_oidc(db, record.id, None)

    async def see_may_change(
        self, record: OperatorRecord, sign_in: SignIn, action: str, *, recovering: bool = False
    ) -> None:
        """See that an operator may change what they sign in with. ``recovering``: who came with a recovery code may do it.

        Raises:
            NotPermitted: they have to sign in again first, or to add a passkey; that is in the audit log.
        """
        try:
            _require_may_change(sign_in, self.now(), recovering=recovering)
        except NotPermitted:
            async with self.database.begin() as db:
                await self._note(db, record.name, action, Outcome.REFUSED, _subject(record.id), {})
            raise

    @asynccontextmanager
    async def _changing(
        self,
        record: OperatorRecord,
        sign_in: SignIn,
        action: str,
        detail: Mapping[str, Any] = MappingProxyType({}),
        *,
        recovering: bool = False,
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes what an operator signs in with: one at a time of theirs, with its entry. See :meth:`see_may_change`."""
        await self.see_may_change(record, sign_in, action, recovering=recovering)
        async with self.database.begin() as db:
            await lock_operator(db, record.id)
            yield db
            await self._note_of(db, record, action, detail)

    async def finish_binding(self, operator_id: int, subject: str) -> None:
        """Let the operator who has begun it, within a challenge's lifetime, sign in as this subject, too.

        Raises:
            NothingThere: they are disabled meanwhile.
            Conflict: it is another operator's.
        """
        async with self.database.begin() as db:
            record = await lock_operator(db, operator_id)
            await bind_oidc(db, record.id, subject)
            await self._note_of(db, record, "oidc.bind", {"bound": True})

    def subject_of(self, issuer: str, subject: str) -> str:
        """What is kept of somebody at a provider: a keyed hash, 64 letters."""
        return oidc_subject(self.secret, issuer, subject)

    # --- the rest ---

    async def sweep(self) -> None:
        """Forget what is over."""
        now = self.now()
        async with self.database.begin() as db:
            for forget in (forget_old_challenges, forget_old_enrolments, forget_old_sign_ins, forget_old_tries):
                await forget(db, now=now)

    def _address(self, address: str) -> bytes:
        return self._who(f"address {network_of(address)}")

    def _who(self, what: str) -> bytes:
        return hash_of(self.secret, Kind.TRIES, what)

    async def _count(self, who: bytes, limit: int, now: int) -> None:
        async with self.database.begin() as db:
            await count_try(db, who, now=now, limit=limit)

    async def _uncount(self, who: bytes, now: int) -> None:
        async with self.database.begin() as db:
            await give_back(db, who, now=now)

    async def _note_of(
        self, db: AsyncConnection, record: OperatorRecord, action: str, detail: Mapping[str, Any]
    ) -> None:
        await self._note(db, record.name, action, Outcome.DONE, _subject(record.id), detail)

    async def _note(
        self,
        db: AsyncConnection,
        who: str,
        action: str,
        outcome: Outcome,
        subject: str,
        detail: Mapping[str, Any],
        *,
        via: str = _CONSOLE,
    ) -> None:
        said = Said(
            at=self.now(), operator=who, via=via, action=action, outcome=outcome, subject=subject, detail=detail
        )
        await append(db, said, self.secret.audit_key)


def operator_of(record: OperatorRecord, sign_in: SignIn, now: int) -> Operator:
    """Who asks, with the permissions of now: none for who came with a recovery code."""
    nothing = sign_in.method is Method.RECOVERY
    permissions = frozenset() if nothing else record.permissions
    return Operator(record.id, record.name, permissions, _CONSOLE, fresh=sign_in.is_fresh(now))


def _require_may_change(sign_in: SignIn, now: int, *, recovering: bool) -> None:
    if sign_in.method is Method.RECOVERY and not recovering:
        raise NotPermitted("Add a passkey, and sign in with it.")
    sign_in.require_fresh(now)


def _subject(operator_id: int) -> str:
    return f"operator {operator_id}"


async def _number_of(db: AsyncConnection, name: str) -> int:
    found = await find_by_name(db, name)
    if found is None or found.disabled_at is not None:
        raise NothingThere("There is no operator with this name.")
    return found.id


def oidc_subject(secret: ServerSecret, issuer: str, subject: str) -> str:
    """See :meth:`Door.subject_of`."""
    return hash_of(secret, Kind.OIDC, f"{issuer}\n{subject}").hex()
