"""Certificates that we issue are accepted by libsignal, and ours are checked as it checks them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_protocol.errors import UntrustedCertificate as LibsignalUntrusted
from signal_protocol.public import (
    MalformedMessage,
    PublicError,
    UntrustedCertificate,
    generate_key_pair,
    issue_sender_certificate,
    issue_server_certificate,
    verify_sender_certificate,
)
from tests.signal_protocol.conftest import MakePerson, Server

ROOT, SERVER, DEVICE = generate_key_pair(), generate_key_pair(), generate_key_pair()
SENDER = "00000000-0000-4000-8000-000000000001"
EXPIRES = 2_000_000_000_000
SERVER_CERTIFICATE = issue_server_certificate(ROOT.private, key_id=1, key=SERVER.public)
CERTIFICATE = issue_sender_certificate(
    SERVER_CERTIFICATE, SERVER.private, sender=SENDER, device_id=1, identity_key=DEVICE.public, expires=EXPIRES
)


def test_what_was_certified_comes_back() -> None:
    found = verify_sender_certificate(
        CERTIFICATE, trust_roots=[generate_key_pair().public, ROOT.public], now=EXPIRES - 1
    )
    assert (str(found.sender), found.sender_e164, found.device_id) == (SENDER, None, 1)
    assert (found.identity_key, found.expires) == (DEVICE.public, EXPIRES)


async def test_libsignal_opens_a_message_sealed_with_ours(make_person: MakePerson, now: int) -> None:
    alice, bob = await make_person(), await make_person(trust_roots=[ROOT.public])
    address = alice.address

    def certificate(server_private: bytes, expires: int) -> bytes:
        return issue_sender_certificate(
            SERVER_CERTIFICATE,
            server_private,
            sender=address.service_id,
            device_id=address.device_id,
            identity_key=alice.local.identity.public_key,
            expires=expires,
            sender_e164="+4915550000001",
        )

    await alice.service.start_session(bob.address, await bob.bundle())
    sealed = await alice.service.encrypt_sealed(bob.address, b"hello", certificate(SERVER.private, now + 60_000))
    received = await bob.service.decrypt_sealed(sealed.message)
    assert (received.sender, received.plaintext) == (address, b"hello")
    for bad in (certificate(SERVER.private, now - 60_000), certificate(DEVICE.private, now + 60_000)):
        sealed = await alice.service.encrypt_sealed(bob.address, b"hello", bad)
        with pytest.raises(LibsignalUntrusted):
            await bob.service.decrypt_sealed(sealed.message)


async def test_libsignals_certificates_are_accepted(make_person: MakePerson, server: Server, now: int) -> None:
    alice = await make_person()
    certificate = await server.certificate(alice.local, expires=now + 60_000)
    found = verify_sender_certificate(certificate, trust_roots=[server.root.public_key], now=now)
    assert str(found.sender) == alice.address.service_id
    assert found.identity_key == alice.local.identity.public_key


def test_expired_or_foreign_certificates_are_refused() -> None:
    for roots, now in (([ROOT.public], EXPIRES), ([SERVER.public], 0), ([], 0)):
        with pytest.raises(UntrustedCertificate):
            verify_sender_certificate(CERTIFICATE, trust_roots=roots, now=now)
    revoked = issue_server_certificate(ROOT.private, key_id=0xDEADC357, key=SERVER.public)
    certificate = issue_sender_certificate(
        revoked, SERVER.private, sender=SENDER, device_id=1, identity_key=DEVICE.public, expires=EXPIRES
    )
    with pytest.raises(UntrustedCertificate):
        verify_sender_certificate(certificate, trust_roots=[ROOT.public], now=0)


@settings(max_examples=300)
@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255))
def test_no_altered_byte_is_accepted(position: int, change: int) -> None:
    altered = CERTIFICATE[:position] + bytes([CERTIFICATE[position] ^ change]) + CERTIFICATE[position + 1 :]
    with pytest.raises(PublicError):
        verify_sender_certificate(altered, trust_roots=[ROOT.public], now=0)


@given(st.binary(max_size=200))
def test_any_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        verify_sender_certificate(data, trust_roots=[ROOT.public], now=0)


def test_a_certificate_is_a_value() -> None:
    found = verify_sender_certificate(CERTIFICATE, trust_roots=[ROOT.public], now=0)
    assert replace(found) == found
