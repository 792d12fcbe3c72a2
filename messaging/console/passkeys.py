"""Passkeys, as browsers speak of them (Web Authentication, Level 3): what is asked of one, and whether its answer is good.

User verification is required: a fingerprint, a face or a PIN beside the device itself. The challenge stands in the answer; whether it is
one of ours, and not answered yet, is for ``door`` to say before anything else is looked at.
"""

import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from messaging.console.parts import Site
from messaging.relay.admin.door import NotRight
from messaging.relay.admin.keeping import VALUE_BYTES
from messaging.relay.admin.passkeys import NewPasskey, Passkey

RELYING_PARTY: Final = "Sub Rosa console"
MAX_CREDENTIAL_ID: Final = 1023  # bytes (Web Authentication, section 4)
_VERIFY: Final = UserVerificationRequirement.REQUIRED

Credential = Mapping[str, Any]  # the JSON of a PublicKeyCredential


def options_of_registration(site: Site, handle: bytes, name: str, challenge: bytes, known: Iterable[bytes]) -> str:
    """What the browser is to make: a passkey that can be found without a name. ``known`` are the operator's others."""
    options = generate_registration_options(
        rp_id=site.name,
        rp_name=RELYING_PARTY,
        user_id=handle,
        user_name=name,
        challenge=challenge,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=_VERIFY
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=each) for each in known],
    )
    return options_to_json(options)


def options_of_sign_in(site: Site, challenge: bytes) -> str:
    """What the browser is to sign, with any passkey for this site."""
    options = generate_authentication_options(rp_id=site.name, challenge=challenge, user_verification=_VERIFY)
    return options_to_json(options)


def challenge_of(credential: Credential) -> bytes:
    """The challenge that an answer claims to answer.

    Raises:
        NotRight: there is none in it.
    """
    try:
        said = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
        challenge: bytes = base64url_to_bytes(said["challenge"])
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no answer
        raise NotRight from None
    if len(challenge) != VALUE_BYTES:
        raise NotRight
    return challenge


def credential_id_of(credential: Credential) -> bytes:
    """The passkey that an answer claims to come from.

    Raises:
        NotRight: there is none in it.
    """
    try:
        credential_id: bytes = base64url_to_bytes(credential["rawId"])
    except Exception:  # noqa: BLE001 - as above
        raise NotRight from None
    if not 1 <= len(credential_id) <= MAX_CREDENTIAL_ID:
        raise NotRight
    return credential_id


def registered(site: Site, credential: Credential, challenge: bytes, name: str) -> NewPasskey:
    """The passkey that was made for ``challenge``.

    Raises:
        NotRight: it was made for something else, elsewhere, or without user verification.
    """
    try:
        proved = verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.name,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except Exception:  # noqa: BLE001 - the library and what it stands on raise many things at what is malformed: all of it is refused
        raise NotRight from None
    return NewPasskey(proved.credential_id, proved.credential_public_key, proved.sign_count, name)


def signed(site: Site, credential: Credential, challenge: bytes, passkey: Passkey, handle: bytes) -> int:
    """How often the authenticator has signed, if it has signed ``challenge``. ``handle`` is that of the passkey's operator.

    Raises:
        NotRight: it has not, or for another site, another operator, or without user verification; or it has counted less than before.
    """
    try:
        said: bytes = base64url_to_bytes(credential["response"]["userHandle"])
        proved = verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.name,
            expected_origin=site.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except Exception:  # noqa: BLE001 - as above
        raise NotRight from None
    if not hmac.compare_digest(said, handle):
        raise NotRight
    return proved.new_sign_count
