"""What every column of the relay's database contains, and what its operator learns from it: the sentences of ``schema``.

Tests hold this against the real schema of both databases: no column is without a meaning, and no meaning without a column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What sort of thing a column holds."""

    PUBLIC_KEY = "public key"
    HASH = "hash"
    CIPHERTEXT = "ciphertext"
    TIME = "time"
    COUNTER = "counter"
    SETTING = "setting"
    IDENTIFIER = "identifier"
    ACCESS_KEY = "access key"
    OPERATOR_TEXT = "operator's text"
    UNKNOWN = "unknown"


# What nobody can learn from a thing of this sort, whoever has the database.
CANNOT: Final[Mapping[Kind, str]] = {
    Kind.PUBLIC_KEY: "It opens nothing: what is encrypted to it only the private key opens, which never leaves its device.",
    Kind.HASH: "What it was made from cannot be computed from it.",
    Kind.CIPHERTEXT: "What is in it: the key is on devices only.",
    Kind.TIME: "What happened then, or who was written to.",
    Kind.COUNTER: "What was counted: only how many.",
    Kind.SETTING: "Anything that was said.",
    Kind.IDENTIFIER: "A name, a number, or who speaks with whom: it was drawn at random or counted up.",
    Kind.ACCESS_KEY: "Any content: it opens a door of this server, and no message.",
    Kind.OPERATOR_TEXT: "Anything of users: operators write it, and are told not to name people in it.",
    Kind.UNKNOWN: "This version does not know: it has no sentence for this column.",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of one column. ``contains`` and ``learns`` are sentences; ``cannot`` is that of its kind unless there is a better one.

    ``example``: a value of this database may be shown, cut short.
    """

    kind: Kind
    contains: str
    learns: str = "Nothing beyond that."
    cannot: str = ""
    example: bool = True


@dataclass(frozen=True, slots=True)
class TableMeaning:
    """Of one table: what a row is, how long it stays, and its columns."""

    row: str
    stays: str
    columns: Mapping[str, Meaning]


K = Kind
_PASSWORD = "A password cannot be computed from it; a short one could be guessed."  # noqa: S105 - no password
_NUMBER = (
    "Whether a number that somebody types is this one: with the server's secret file. Without that file, not even that."
)
_NUMBER_NOT = "The number: it is hashed under a key in the secret file, outside the database."
_SEALED = "What is in it, for who has the database alone: the key is derived from the secret file."
_ACCOUNT = Meaning(K.IDENTIFIER, "The row of the account.", "Which rows are of one account.", example=False)
_DEVICE = Meaning(K.IDENTIFIER, "The number of a device of the account, from 1.", "Which device of the account it is.")
_MAILBOX = Meaning(
    K.IDENTIFIER, "The queue of one registration of one device.", "Which rows are of one device.", example=False
)
_ROW = Meaning(K.IDENTIFIER, "The number of the row.", "In which order rows were made.", example=False)
_OPERATOR = Meaning(K.IDENTIFIER, "The row of an operator.", "Which rows are of one operator.", example=False)
_EXPIRES = Meaning(K.TIME, "When the row is forgotten.", "When about it was made.")
_ROLE = Meaning(K.SETTING, "What may be registered or done with it: member, bot, or an operator's role.")
_IDENTITY = Meaning(K.SETTING, "Under which of the account's two identities: account or number.")
_KEY_ID = Meaning(K.IDENTIFIER, "The number that the device gave the key.", example=False)
_SIGNATURE = Meaning(K.PUBLIC_KEY, "The identity key's signature under the key.", cannot="It signs nothing else.")


def _hash(
    contains: str, learns: str = "Whether somebody who shows the original is right.", cannot: str = ""
) -> Meaning:
    return Meaning(K.HASH, contains, learns, cannot)


def _quiet(kind: Kind, contains: str, learns: str = "Nothing beyond that.", cannot: str = "") -> Meaning:
    """What no example is shown of."""
    return Meaning(kind, contains, learns, cannot, example=False)


def _at(what: str) -> Meaning:
    return Meaning(K.TIME, what)


_KYBER: Final = Meaning(
    K.PUBLIC_KEY, "A public Kyber-1024 prekey, with which others begin sessions that hold against quantum computers."
)
_EC: Final = Meaning(
    K.PUBLIC_KEY, "A public Curve25519 prekey, with which others begin sessions.", "How many a device has left."
)
_OF_DEVICE: Final = {"account_id": _ACCOUNT, "device_id": _DEVICE, "identity": _IDENTITY, "key_id": _KEY_ID}

TABLES: Final[Mapping[str, TableMeaning]] = {
    "accounts": TableMeaning(
        "An account: of a person or a bot, by the hash of a number; of an assistant, by a name.",
        "Until it is deleted.",
        {
            "id": _ROW,
            "aci": Meaning(K.IDENTIFIER, "The account's public id, drawn at random.", "That the account exists."),
            "pni": Meaning(K.IDENTIFIER, "The public id that stands for its number, drawn at random.", "The same."),
            "number_hash": _hash("A keyed hash of the telephone number.", _NUMBER, _NUMBER_NOT),
            "assistant_name": Meaning(
                K.SETTING, "The name of an assistant, which its operator gave it; empty for people."
            ),
            "aci_identity_key": Meaning(
                K.PUBLIC_KEY, "The public identity key, which safety numbers are made of.", "When it changes."
            ),
            "pni_identity_key": Meaning(K.PUBLIC_KEY, "The same, of the number's identity."),
            "access_key": _quiet(
                K.ACCESS_KEY,
                "What a sealed sender has to show to be let in; devices derive it from the profile key.",
                "Whether somebody who sends without saying who knows the profile key.",
                "The profile key: it cannot be computed from this one.",
            ),
            "unrestricted_access": Meaning(K.SETTING, "Whether anybody may send to it sealed."),
            "discoverable": Meaning(K.SETTING, "Whether its owner lets others find it by its number."),
            "created_on": _at("The day on which it was registered."),
            "lock_salt": _quiet(K.HASH, "The salt of the registration lock."),
            "lock_hash": _quiet(K.HASH, "A slow hash of the registration lock.", "Whether there is a lock.", _PASSWORD),
            "recovery_salt": _quiet(K.HASH, "The salt of the recovery password."),
            "recovery_hash": _quiet(
                K.HASH, "A slow hash of the recovery password.", "Whether there is one.", _PASSWORD
            ),
            "role": Meaning(K.SETTING, "Whether it is a person's or a bot's."),
            "accepting": Meaning(K.SETTING, "Of an assistant: whether it takes requests, as it says."),
            "drained": Meaning(K.SETTING, "Of an assistant: whether an operator lets it have nothing new."),
            "suspended_at": _at("When an operator suspended it."),
        },
    ),
    "devices": TableMeaning(
        "A device of an account.",
        "Until it is removed or registered anew.",
        {
            "account_id": _ACCOUNT,
            "device_id": _DEVICE,
            "mailbox_id": _MAILBOX,
            "registration_id": Meaning(
                K.IDENTIFIER, "A number that the device drew, so that others notice a new registration.", example=False
            ),
            "pni_registration_id": Meaning(K.IDENTIFIER, "The same, for the number's identity.", example=False),
            "password_salt": _quiet(K.HASH, "The salt of the device's password."),
            "password_hash": _quiet(
                K.HASH, "A hash of the password, which the device drew at random.", "Whether a caller is this device."
            ),
            "name": Meaning(K.CIPHERTEXT, "The device's name, encrypted by the device.", "About how long it is."),
            "capabilities": _quiet(K.SETTING, "What the app on it can do, by name.", "About which version it is."),
            "created_on": _at("The day on which it was registered or linked."),
            "seen_on": Meaning(K.TIME, "The day on which it was last seen.", "Whether it is in use. Not at what hour."),
        },
    ),
    "deleted_accounts": TableMeaning(
        "The tombstone of a deleted account, so that whoever registers the number soon is the same to others.",
        "30 days.",
        {
            "number_hash": _hash("A keyed hash of the number.", _NUMBER, _NUMBER_NOT),
            "aci": Meaning(K.IDENTIFIER, "The id that the account had."),
            "pni": Meaning(K.IDENTIFIER, "The id of its number's identity."),
            "expires_at": _EXPIRES,
        },
    ),
    "verification_sessions": TableMeaning(
        "Somebody who is proving a number.",
        "An hour at most.",
        {
            "id_hash": _hash("A hash of the session's id, which only the app has."),
            "number_hash": _hash("A keyed hash of the number.", _NUMBER, _NUMBER_NOT),
            "sealed_number": Meaning(
                K.CIPHERTEXT,
                "The number, sealed under a key of the secret file: the code has to be sent somewhere.",
                "The number, for as long as the session lasts, for who has the secret file too.",
                _SEALED,
            ),
            "expires_at": _EXPIRES,
            "verified": Meaning(K.SETTING, "Whether the code was right."),
            "codes_sent": Meaning(K.COUNTER, "How many codes were sent."),
            "next_code_at": _at("When another one may be sent."),
            "code_mac": _quiet(K.HASH, "A keyed hash of the code."),
            "code_expires_at": _at("When the code is too old."),
            "attempts": Meaning(K.COUNTER, "How many codes were tried."),
            "role": _ROLE,
            "new_account_only": Meaning(K.SETTING, "Whether an account that exists may not be registered with it."),
            "account_id": Meaning(K.IDENTIFIER, "The account that it has registered.", example=False),
        },
    ),
    "invites": TableMeaning(
        "An invite.",
        "For good.",
        {
            "id": _ROW,
            "code_hash": _hash("A keyed hash of the code; the code was shown once."),
            "role": _ROLE,
            "uses_left": Meaning(K.COUNTER, "How many may still register with it."),
            "expires_at": _at("When it is too old."),
            "created_at": _at("When it was made."),
            "number_hash": _hash("A keyed hash of the number that it is for.", _NUMBER, _NUMBER_NOT),
            "revoked": Meaning(K.SETTING, "Whether it counts no more."),
        },
    ),
    "usernames": TableMeaning(
        "A username that is taken or reserved.",
        "Until its owner gives it up, and some days more; a reservation, minutes.",
        {
            "username_hash": _hash(
                "A hash of the username.", "Whether a username that somebody guesses is taken, as everybody may ask."
            ),
            "account_id": _ACCOUNT,
            "confirmed": Meaning(K.SETTING, "Whether it is taken, or reserved only."),
            "expires_at": _EXPIRES,
            "link_handle": Meaning(K.IDENTIFIER, "What the username's link names.", "Whether there is a link."),
            "encrypted_username": Meaning(K.CIPHERTEXT, "The username, encrypted with a key that only the link holds."),
        },
    ),
    "profiles": TableMeaning(
        "A version of a profile; all that people say in it is encrypted with a key that they give to whom they write.",
        "Until the account is deleted, or ten newer versions are there.",
        {
            "account_id": _ACCOUNT,
            "version": _hash("What names the version: made from the profile key.", "That a profile key has changed."),
            "changed_at": _at("When it was changed."),
            "commitment": _hash("A commitment to the profile key.", "Nothing of the key.", "The profile key."),
            "name": Meaning(K.CIPHERTEXT, "The name.", "Which of a few padded sizes it has."),
            "about": Meaning(
                K.CIPHERTEXT, "What its owner says about themselves.", "Which of a few padded sizes it has."
            ),
            "about_emoji": Meaning(K.CIPHERTEXT, "An emoji."),
            "payment_address": Meaning(K.CIPHERTEXT, "An address for payments.", "Whether there is one."),
            "phone_number_sharing": Meaning(K.CIPHERTEXT, "Whether the number is shown to others."),
            "avatar": _quiet(
                K.IDENTIFIER, "Where the encrypted picture is.", "Whether there is a picture.", "The picture."
            ),
            "avatar_hash": _hash("A hash of that name.", "The same."),
        },
    ),
    "signed_prekeys": TableMeaning(
        "The present signed prekey of a device.",
        "Until the device uploads the next one.",
        {**_OF_DEVICE, "public_key": Meaning(K.PUBLIC_KEY, "A public Curve25519 prekey."), "signature": _SIGNATURE},
    ),
    "last_resort_kyber_prekeys": TableMeaning(
        "The Kyber prekey that is handed out when no other is left.",
        "Until the device uploads the next one.",
        {**_OF_DEVICE, "public_key": _KYBER, "signature": _SIGNATURE},
    ),
    "one_time_prekeys": TableMeaning(
        "A prekey that is handed out once.",
        "Until somebody begins a session with the device.",
        {"id": _ROW, **_OF_DEVICE, "public_key": _EC},
    ),
    "one_time_kyber_prekeys": TableMeaning(
        "A Kyber prekey that is handed out once.",
        "Until somebody begins a session with the device.",
        {"id": _ROW, **_OF_DEVICE, "public_key": _KYBER, "signature": _SIGNATURE},
    ),
    "mailboxes": TableMeaning(
        "The queue of one registration of one device.",
        "As long as that registration.",
        {
            "id": _MAILBOX,
            "last_sequence": Meaning(
                K.COUNTER,
                "How many envelopes it has ever got.",
                "How much a device is written to. Not by whom, where senders are sealed.",
            ),
            "connections": Meaning(K.COUNTER, "How often its device has connected."),
            "version": Meaning(K.COUNTER, "How often what others know of the device has changed."),
        },
    ),
    "envelopes": TableMeaning(
        "A message for one device that has not fetched it yet.",
        "Until the device has it; at most as long as the setting says, 30 days.",
        {
            "mailbox_id": _MAILBOX,
            "sequence": Meaning(K.COUNTER, "Its number in the queue.", "In which order messages came."),
            "expires_at": Meaning(K.TIME, "When it is forgotten.", "When it came."),
            "data": Meaning(
                K.CIPHERTEXT,
                "The envelope: its type, to whom, when, and the encrypted content. Unless its sender is sealed, who sent it.",
                "That something came for this device, when, its padded size, and where the sender's app did not seal it, from which account.",
                "What it says, to which conversation or group it belongs, and who sent it where the sender is sealed.",
            ),
            "deliveries": Meaning(K.COUNTER, "How often its device failed to take it.", "Whether it is parked."),
            "prefix": Meaning(K.CIPHERTEXT, "Of a message to many: the part for this device alone."),
            "payload_id": _quiet(
                K.IDENTIFIER,
                "Of a message to many: which payload it shares.",
                "Which devices got the same message: members of one group, while it waits.",
                "Which group, its name, or who sent it.",
            ),
        },
    ),
    "payloads": TableMeaning(
        "What all recipients of one message share.",
        "Until the last of them has it.",
        {"id": _ROW, "expires_at": _EXPIRES, "data": Meaning(K.CIPHERTEXT, "Encrypted content.", "Its padded size.")},
    ),
    "gaps": TableMeaning(
        "Envelopes that a device will not get: it is told so.",
        "Until the device has heard it.",
        {
            "mailbox_id": _MAILBOX,
            "first": Meaning(K.COUNTER, "The first number that is missing."),
            "last": Meaning(K.COUNTER, "The last one."),
            "reason": Meaning(K.SETTING, "Why: too old, or dropped."),
        },
    ),
    "remembered_sends": TableMeaning(
        "A send under an idempotency key, so that repeating it sends nothing twice.",
        "As long as envelopes.",
        {
            "key_hash": _hash(
                "A hash of the key, of its sender and of whom it was sent to.",
                "Whether somebody who has all three sent it.",
            ),
            "request_hash": _hash("A hash of the request.", "Whether a repetition is the same request."),
            "answer": _quiet(
                K.SETTING,
                "What was answered: a few words of the contract, for a message to many the accounts that were not there.",
            ),
            "expires_at": _EXPIRES,
        },
    ),
    "spam_reports": TableMeaning(
        "A report of an envelope as spam.",
        "30 days.",
        {
            "reported": Meaning(K.IDENTIFIER, "The account that is reported.", "How often it was reported."),
            "report_hash": _hash("A keyed hash of the envelope and the reporter.", "That each is counted once."),
            "reporter_hash": _hash(
                "A keyed hash of who reported.",
                "How many people reported. With the secret file, whether it was a certain account.",
            ),
            "expires_at": _EXPIRES,
        },
    ),
    "attachments": TableMeaning(
        "An uploaded file, encrypted by who sent it. Whose it is, is not stored.",
        "As long as the setting says; an avatar until its owner changes it.",
        {
            "key_hash": _hash(
                "A hash of the key by which it is fetched.", "Whether somebody who has the key may fetch it."
            ),
            "length": Meaning(K.COUNTER, "How many bytes it has, padded.", "Its padded size."),
            "received": Meaning(K.COUNTER, "How many have come."),
            "expires_at": _EXPIRES,
            "lasting": Meaning(K.SETTING, "Whether it is an avatar."),
        },
    ),
    "attachment_pieces": TableMeaning(
        "A piece of an attachment in the storage.",
        "As long as its attachment.",
        {
            "key_hash": _hash("A hash of the attachment's key.", "Which pieces belong together."),
            "start": Meaning(K.COUNTER, "Where in the attachment it begins."),
            "size": Meaning(K.COUNTER, "How many bytes it has."),
            "name": _quiet(K.IDENTIFIER, "Its name in the storage, drawn at random."),
        },
    ),
    "provisioning": TableMeaning(
        "A new device that waits to be linked.",
        "Minutes.",
        {
            "address_hash": _hash("A hash of the address that its QR code names."),
            "message": Meaning(
                K.CIPHERTEXT, "What the old device tells the new one: keys, encrypted from device to device."
            ),
            "expires_at": _EXPIRES,
        },
    ),
    "used_link_tokens": TableMeaning(
        "A token that has linked a device, so that it links no second one.",
        "Ten minutes.",
        {
            "token_hash": _hash("A hash of the token."),
            "account_id": _ACCOUNT,
            "device_id": _DEVICE,
            "expires_at": _EXPIRES,
        },
    ),
    "grants": TableMeaning(
        "A rate limit of its own that an operator gave an account.",
        "Until an operator takes it back.",
        {
            "account_id": _ACCOUNT,
            "limit_name": Meaning(K.SETTING, "Which limit."),
            "size": Meaning(K.SETTING, "How much at once."),
            "refill": Meaning(K.SETTING, "How many seconds until one more."),
        },
    ),
    "assistant_reports": TableMeaning(
        "What an assistant last said of itself, for operators to see.",
        "Until its next report.",
        {
            "account_id": _ACCOUNT,
            "nonce": _quiet(K.IDENTIFIER, "32 random bytes that its next evidence has to answer."),
            "nonce_at": _at("When they were drawn."),
            "evidence_nonce": Meaning(K.IDENTIFIER, "Those that its last evidence answers."),
            "evidence_at": _at("When they were drawn: the evidence is not older."),
            "bundle": Meaning(
                K.PUBLIC_KEY,
                "Evidence of where it runs, with the certificates that prove it. Everybody who asks the assistant gets such evidence.",
                "The hardware, its firmware, the measurement of the code, and the enclave's public keys.",
                "What is asked of the assistant, by whom, and what it answers.",
            ),
            "reported_at": _at("When it last reported."),
            "load": _quiet(
                K.COUNTER,
                "Requests that wait and are served, conversations that it holds messages of, and the memory they take: rounded up to steps.",
                "How busy it is.",
                "Whose requests or conversations: no number is of a user, and none is exact.",
            ),
        },
    ),
    "assistant_releases": TableMeaning(
        "A release that an assistant has named.",
        "The newest 50 of each assistant.",
        {
            "account_id": _ACCOUNT,
            "release": Meaning(K.SETTING, "What it calls its code."),
            "measurement": _hash(
                "The measurement of its code, as it says.",
                "Which code it says that it runs.",
                "It is published, no secret.",
            ),
            "first_seen_at": _at("When it first named it."),
            "last_seen_at": _at("When it last did."),
        },
    ),
    "generations": TableMeaning(
        "How far a relay process had handed out one-time prekeys, so that a restored backup is noticed.",
        "As long as that process is known.",
        {
            "relay": Meaning(K.IDENTIFIER, "A relay process, drawn at random."),
            "number": Meaning(K.COUNTER, "Its generation."),
        },
    ),
    "nodes": TableMeaning(
        "A relay process.",
        "An hour after its end.",
        {
            "id": Meaning(K.IDENTIFIER, "The process, drawn at random at its start."),
            "name": Meaning(K.SETTING, "What the operator calls it."),
            "version": Meaning(K.SETTING, "The version that it runs."),
            "started_at": _at("When it started."),
            "seen_at": _at("When it was last there."),
            "state": Meaning(K.SETTING, "Whether it serves, drains or has ended."),
            "drain_asked_at": _at("When an operator asked it to drain."),
            "drain_alone": Meaning(K.SETTING, "Whether it was asked to drain even while no other one serves."),
            "figures": _quiet(
                K.COUNTER,
                "What it has done, in numbers: the metrics.",
                "How busy the server is.",
                "Who was busy: no figure names an account.",
            ),
        },
    ),
    "operator_settings": TableMeaning(
        "A version of a setting that operators change while relays run.",
        "For good: none is lost.",
        {
            "name": Meaning(K.SETTING, "Which setting."),
            "version": Meaning(K.COUNTER, "Its version."),
            "document": _quiet(K.SETTING, "What it was set to."),
            "changed_at": _at("When."),
            "changed_by": _quiet(K.OPERATOR_TEXT, "By which operator."),
        },
    ),
    "operators": TableMeaning(
        "Somebody who may sign in to the console.",
        "For good: the audit log names them.",
        {
            "id": _OPERATOR,
            "handle": _quiet(K.IDENTIFIER, "32 random bytes by which passkeys know them."),
            "name": _quiet(K.OPERATOR_TEXT, "Their name."),
            "folded_name": _quiet(K.OPERATOR_TEXT, "The same in small letters, so that no two look the same."),
            "role": _ROLE,
            "created_at": _at("When they were enrolled."),
            "disabled_at": _at("When they left."),
            "totp_sealed": _quiet(
                K.CIPHERTEXT, "The secret of their authenticator app.", "Whether there is one.", _SEALED
            ),
            "totp_step": _quiet(K.COUNTER, "The last step that was used, so that no code works twice."),
            "oidc_subject": _quiet(K.IDENTIFIER, "Who they are at the identity provider."),
        },
    ),
    "passkeys": TableMeaning(
        "A passkey of an operator.",
        "Until it is removed.",
        {
            "credential_id": _quiet(K.IDENTIFIER, "What the authenticator calls it."),
            "operator_id": _OPERATOR,
            "public_key": _quiet(K.PUBLIC_KEY, "The public key of the passkey."),
            "sign_count": Meaning(K.COUNTER, "How often it has signed, if it says so."),
            "name": _quiet(K.OPERATOR_TEXT, "What its owner calls it."),
            "created_at": _at("When it was added."),
            "used_at": _at("When it was last used."),
        },
    ),
    "recovery_codes": TableMeaning(
        "A code that lets an operator in once.",
        "Until new ones are made.",
        {
            "code_hash": _quiet(K.HASH, "A keyed hash of the code."),
            "operator_id": _OPERATOR,
            "used_at": _at("When it was used."),
        },
    ),
    "sign_ins": TableMeaning(
        "An operator who is signed in.",
        "Half a day at most.",
        {
            "id_hash": _quiet(K.HASH, "A hash of the cookie."),
            "operator_id": _OPERATOR,
            "method": Meaning(K.SETTING, "How they signed in."),
            "began_at": _at("When."),
            "seen_at": _at("When they were last there."),
            "browser": _quiet(K.SETTING, "A family of browsers and a system. No address is kept."),
        },
    ),
    "enrolments": TableMeaning(
        "A link with which somebody becomes an operator.",
        "A day.",
        {
            "code_hash": _quiet(K.HASH, "A keyed hash of the link's code."),
            "role": _ROLE,
            "operator_id": _OPERATOR,
            "made_by": _quiet(K.OPERATOR_TEXT, "Who made it."),
            "expires_at": _EXPIRES,
        },
    ),
    "challenges": TableMeaning(
        "A sign-in that has begun.",
        "Minutes.",
        {
            "challenge_hash": _quiet(K.HASH, "A hash of the challenge."),
            "purpose": Meaning(K.SETTING, "What it is for."),
            "operator_id": _OPERATOR,
            "expires_at": _EXPIRES,
        },
    ),
    "admin_tokens": TableMeaning(
        "A token of the admin API.",
        "Until it is removed.",
        {
            "id": _ROW,
            "token_hash": _quiet(K.HASH, "A keyed hash of the token; the token was shown once."),
            "operator_id": _OPERATOR,
            "name": _quiet(K.OPERATOR_TEXT, "What its owner calls it."),
            "permissions": _quiet(K.SETTING, "What it may do."),
            "created_at": _at("When it was made."),
            "expires_at": _at("When it is too old."),
            "used_at": _at("When it was last used."),
            "revoked": Meaning(K.SETTING, "Whether it counts no more."),
        },
    ),
    "sign_in_tries": TableMeaning(
        "Failed tries to sign in to the console, in one minute.",
        "A day at most.",
        {
            "who_hash": _quiet(K.HASH, "A keyed hash of the operator or the network address that tried."),
            "minute": _quiet(K.TIME, "In which minute."),
            "count": Meaning(K.COUNTER, "How often."),
        },
    ),
    "audit_entries": TableMeaning(
        "Something that an operator looked at or did.",
        "For good: entries are never changed.",
        {
            "sequence": Meaning(K.COUNTER, "Its number."),
            "at": _at("When."),
            "operator": _quiet(K.OPERATOR_TEXT, "Who."),
            "via": Meaning(K.SETTING, "Through the console, the API or the terminal."),
            "action": Meaning(K.SETTING, "What was looked at or done."),
            "outcome": Meaning(K.SETTING, "What came of it."),
            "subject": _quiet(
                K.IDENTIFIER,
                "To what: an account by its public id, an assistant by its name.",
                "Which accounts operators looked at.",
            ),
            "reason": _quiet(K.OPERATOR_TEXT, "Why, in the operator's words."),
            "detail": _quiet(K.SETTING, "What exactly, of what may stand in the log: no number, key or token."),
            "previous": _hash("The digest of the entry before.", "That none is missing."),
            "digest": _hash("The digest of this entry.", "That it was not changed."),
            "seal": _hash("A keyed hash of the digest.", "That this server wrote it, with the secret file."),
        },
    ),
    "audit_turn": TableMeaning(
        "Whose turn it is to add to the audit log: one row.",
        "For good.",
        {"id": _ROW, "entries": Meaning(K.COUNTER, "How many entries there are.")},
    ),
    "proposals": TableMeaning(
        "An action that waits for a second operator, or was decided on.",
        "Until another one is proposed, a month after its end; the audit log tells for good what came of it.",
        {
            "id": _ROW,
            "action": Meaning(K.SETTING, "What is proposed."),
            "parameters": _quiet(K.SETTING, "With what: only what may stand in the audit log."),
            "reason": _quiet(K.OPERATOR_TEXT, "Why, in the operator's words."),
            "subject": _quiet(K.IDENTIFIER, "To what: an account by its public id."),
            "operator_id": _OPERATOR,
            "operator": _quiet(K.OPERATOR_TEXT, "Who proposed it."),
            "at": _at("When."),
            "decided_by": _quiet(K.OPERATOR_TEXT, "Who decided."),
            "decided_at": _at("When."),
        },
    ),
    "alembic_version": TableMeaning(
        "The version of the schema: one row.",
        "For good.",
        {"version_num": Meaning(K.SETTING, "The number of the last migration.")},
    ),
}

MEANINGS: Final[Mapping[str, Meaning]] = {
    f"{table}.{column}": meaning for table, known in TABLES.items() for column, meaning in known.columns.items()
}

NO_COLUMN_FOR: Final = (
    "message text, in any form that this server could read",
    "who wrote to whom, where the sender is sealed",
    "group names",
    "members of groups",
    "contact lists",
    "profile names, in any form that this server could read",
    "phone numbers, but for one that is being verified: sealed, for an hour at most",
    "what is asked of an assistant, and what it answers",
    "network addresses",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere other than the database where this server keeps something."""

    place: str
    contains: str
    learns: str
    cannot: str


ELSEWHERE: Final = (
    Place(
        "Redis or Valkey, if there is one",
        "Channels named by the number of a mailbox, under a prefix that is hashed with a key; notices of a word or two; levels of rate "
        "limits under keyed hashes.",
        "Which mailboxes have a connected device now, and how often limits are drawn on.",
        "Any content: messages never go through it. It may be lost without a message being lost.",
    ),
    Place(
        "The storage of attachments",
        "Pieces of files, encrypted by who sent them, under names drawn at random.",
        "How many there are, when they came, and their padded sizes.",
        "What is in them, whose they are, and in which message they were sent: key and address travel inside the message.",
    ),
    Place(
        "Log files",
        "Lines of a fixed list of fields: an event, the template of a route, a status, a duration, the type of an error.",
        "How many requests of which kind there were, and what failed.",
        "Who made them: no account, number, address, id or content is in the list, and what is not in the list is not written.",
    ),
    Place(
        "Metrics",
        "Counters and durations of each process, by the template of a route.",
        "How busy the server is.",
        "Who was busy: no label names an account or a device.",
    ),
    Place(
        "The memory of a relay, and the network",
        "Open connections, with the network addresses of their other ends, and messages on their way.",
        "Which account is connected from which address now, and when something arrives for it.",
        "What is said: it arrives encrypted from device to device.",
    ),
    Place(
        "The secret file",
        "32 random bytes from which the keys for hashes, seals and certificates are derived.",
        "With the database: whether a number that somebody types has an account, and numbers that are being verified at that moment.",
        "Any content: no key to a message is derived from it.",
    ),
)
