"""NVIDIA's manifests come whole and under their name; its word on a certificate is about that certificate."""

import base64
import contextlib
import hashlib
import json
from datetime import timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.fetching import (
    AnswerTooLarge,
    CannotAsk,
    FetchError,
    Kind,
    MalformedAnswer,
    NotKnown,
    RateLimited,
    Refused,
    Response,
    Unreachable,
    fetch_ocsp,
    fetch_rim,
)
from attestation.limits import MAX_OCSP, MAX_RIM
from tests.attestation.fetching.replay import NOW, UNNAMED_PAGE, WEB_PAGE, Always, Authority, Scripted
from tests.attestation.vectors import read as vector

RIM_ID = "NV_GPU_DRIVER_GH100_550.144.03"
RIM_URL = f"https://rim.attestation.nvidia.com/v1/rim/{RIM_ID}"
XML = b'<?xml version="1.0"?><SoftwareIdentity/>'


def rim_answer(manifest: bytes = XML, **changes: object) -> Response:
    """The members that the service sends; a change of ``None`` leaves one out."""
    members: dict[str, object] = {
        "id": RIM_ID,
        "rim": base64.b64encode(manifest).decode(),
        "sha256": hashlib.sha256(manifest).hexdigest(),
        "last_updated": "2025-03-14T15:09:03.011000",
        "rim_format": "TCG",
        "request_id": "ca80a80a-054c-476e-bdd2-7be7e3047fe5",
        **changes,
    }
    sent = {name: value for name, value in members.items() if value is not None}
    return Response(200, (("Content-Type", "application/json"),), json.dumps(sent).encode())


async def test_gives_a_published_manifest_byte_for_byte() -> None:
    manifest = vector(f"nvidia_gpu/rim/{RIM_ID}.xml")
    service = Scripted({RIM_URL: rim_answer(manifest)})
    assert await fetch_rim(service, RIM_ID) == manifest
    assert [(request.method, request.kind, request.body) for request in service.asked] == [("GET", Kind.RIM, b"")]


async def test_digest_and_format_are_checked_only_if_they_are_there() -> None:
    assert await fetch_rim(Always(rim_answer(sha256=None, rim_format=None)), RIM_ID) == XML


async def test_a_key_of_the_api_goes_into_a_header_and_is_not_shown() -> None:
    service = Always(rim_answer())
    await fetch_rim(service, RIM_ID, key="secret", url="https://mirror.example/")
    (request,) = service.asked
    assert request.url == f"https://mirror.example/v1/rim/{RIM_ID}"
    assert ("Authorization", "Bearer secret") in request.headers
    assert "secret" not in repr(request)


@pytest.mark.parametrize("rim_id", ["", ".", "..", "../ids", "a/b", "a?b", "a#b", "a b", "a%2f", "a\n", "é", "a" * 129])
async def test_a_name_out_of_evidence_cannot_lead_elsewhere(rim_id: str) -> None:
    service = Always(rim_answer())
    with pytest.raises(CannotAsk):
        await fetch_rim(service, rim_id)
    assert not service.asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, Unreachable),
        (WEB_PAGE, MalformedAnswer),
        (UNNAMED_PAGE, MalformedAnswer),
        (rim_answer(id="NV_GPU_DRIVER_GH100_535.86.09"), MalformedAnswer),
        (rim_answer(id=None), MalformedAnswer),
        (rim_answer(rim=None), MalformedAnswer),
        (rim_answer(rim=""), MalformedAnswer),
        (rim_answer(rim="*"), MalformedAnswer),
        (rim_answer(rim="é"), MalformedAnswer),
        (rim_answer(rim=["a"]), MalformedAnswer),
        (rim_answer(rim_format="CORIM"), MalformedAnswer),
        (rim_answer(sha256="00" * 32), MalformedAnswer),
        (rim_answer(sha256="00"), MalformedAnswer),
        (rim_answer(sha256=1), MalformedAnswer),
        (rim_answer(b"\xd9\x01\xf4"), MalformedAnswer),
        (rim_answer(b"<" + bytes(MAX_RIM)), MalformedAnswer),
        (rim_answer(b"<" + bytes(MAX_RIM + 4096)), AnswerTooLarge),
        (Response(200, (), rim_answer().body[:-1]), MalformedAnswer),
        (Response(200, (), rim_answer().body + b"{}"), MalformedAnswer),
        (Response(200, (), rim_answer().body[:-1] + b',"rim":"PGE+"}'), MalformedAnswer),
        (Response(302, (("Location", "https://elsewhere.example"),)), Refused),
        (Response(404), NotKnown),
        (Response(429, (("Retry-After", "10"),)), RateLimited),
        (Response(500), Refused),
    ],
)
async def test_refuses_what_is_no_manifest_of_that_name(answer: Response | None, error: type[FetchError]) -> None:
    with pytest.raises(error):
        await fetch_rim(Always(answer), RIM_ID)


@given(st.binary(max_size=64) | st.text(alphabet='{}":,idrm ', max_size=40).map(str.encode))
async def test_any_bytes_are_a_manifest_or_refused(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        await fetch_rim(Always(Response(200, (), body)), RIM_ID)


AUTHORITY = Authority.make()
CHIP = AUTHORITY.issue()
CERTIFICATE, ISSUER = CHIP.public_bytes(Encoding.DER), AUTHORITY.certificate.public_bytes(Encoding.DER)


def status_of(certificate: x509.Certificate, status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD) -> bytes:
    """What a responder that the authority itself runs says."""
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate,
        issuer=AUTHORITY.certificate,
        algorithm=SHA384(),
        cert_status=status,
        this_update=NOW,
        next_update=NOW + timedelta(days=1),
        revocation_time=NOW if revoked else None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, AUTHORITY.certificate)
    return builder.sign(AUTHORITY.key, SHA256()).public_bytes(Encoding.DER)


def refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


GOOD = status_of(CHIP)


def answered(body: bytes) -> Always:
    return Always(Response(200, (("Content-Type", "application/ocsp-response"),), body))


@pytest.mark.parametrize("status", list(ocsp.OCSPCertStatus))
async def test_gives_the_response_whatever_it_says(status: ocsp.OCSPCertStatus) -> None:
    body = status_of(CHIP, status)
    assert await fetch_ocsp(answered(body), CERTIFICATE, ISSUER) == body


async def test_asks_about_one_certificate_in_the_hash_that_nvidia_uses_and_without_a_nonce() -> None:
    service = answered(GOOD)
    await fetch_ocsp(service, CERTIFICATE, ISSUER)
    (request,) = service.asked
    assert (request.method, request.url, request.kind) == ("POST", "https://ocsp.ndis.nvidia.com/", Kind.OCSP)
    assert ("Content-Type", "application/ocsp-request") in request.headers
    # The same bytes as cryptography makes of the loaded certificates.
    builder = ocsp.OCSPRequestBuilder().add_certificate(CHIP, AUTHORITY.certificate, SHA384())
    assert request.body == builder.build().public_bytes(Encoding.DER)
    question = ocsp.load_der_ocsp_request(request.body)
    assert question.serial_number == CHIP.serial_number
    assert isinstance(question.hash_algorithm, SHA384)
    assert len(question.extensions) == 0


async def test_the_same_question_is_the_same_request_so_that_an_answer_can_be_kept() -> None:
    service = answered(GOOD)
    await fetch_ocsp(service, CERTIFICATE, ISSUER)
    await fetch_ocsp(service, CERTIFICATE, ISSUER)
    assert service.asked[0] == service.asked[1]


@pytest.mark.parametrize(
    "path", ["hopper_evidence/chain.pem", "blackwell/blackwellCertChain.txt", "multi_switch_ls10/chain.pem"]
)
async def test_every_certificate_of_a_published_chain_can_be_asked_about(path: str) -> None:
    chain = x509.load_pem_x509_certificates(vector(f"nvidia_gpu/{path}"))
    service = answered(refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED))
    for certificate, issuer in pairwise(chain):
        with pytest.raises(NotKnown):
            await fetch_ocsp(service, certificate.public_bytes(Encoding.DER), issuer.public_bytes(Encoding.DER))
    asked = [ocsp.load_der_ocsp_request(request.body).serial_number for request in service.asked]
    assert asked == [certificate.serial_number for certificate in chain[:-1]]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, Unreachable),
        (WEB_PAGE, MalformedAnswer),
        (UNNAMED_PAGE, MalformedAnswer),
        (Response(200), MalformedAnswer),
        (Response(200, (), GOOD[:-1]), MalformedAnswer),
        (Response(200, (), GOOD + b"\0"), MalformedAnswer),
        (Response(200, (), status_of(AUTHORITY.issue("Another chip"))), MalformedAnswer),
        (Response(200, (), refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)), NotKnown),
        (Response(200, (), refusal(ocsp.OCSPResponseStatus.TRY_LATER)), RateLimited),
        (Response(200, (), refusal(ocsp.OCSPResponseStatus.INTERNAL_ERROR)), MalformedAnswer),
        (Response(200, (), refusal(ocsp.OCSPResponseStatus.SIG_REQUIRED)), MalformedAnswer),
        (Response(200, (), bytes(MAX_OCSP + 1)), AnswerTooLarge),
        (Response(302, (("Location", "https://elsewhere.example"),)), Refused),
        (Response(404), NotKnown),
        (Response(429, (("Retry-After", "10"),)), RateLimited),
        (Response(500), Refused),
    ],
)
async def test_refuses_what_says_nothing_about_this_certificate(
    answer: Response | None, error: type[FetchError]
) -> None:
    with pytest.raises(error) as caught:
        await fetch_ocsp(Always(answer), CERTIFICATE, ISSUER)
    assert str(CHIP.serial_number) not in str(caught.value)


@settings(max_examples=200)
@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
async def test_a_response_with_a_changed_byte_comes_through_whole_or_is_refused(at: int, byte: int) -> None:
    body = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    with contextlib.suppress(MalformedAnswer, NotKnown, RateLimited):
        assert await fetch_ocsp(answered(body), CERTIFICATE, ISSUER) == body


@settings(max_examples=200)
@given(at=st.integers(0, len(CERTIFICATE) - 1), byte=st.integers(0, 255))
async def test_any_certificate_out_of_evidence_is_asked_about_or_not(at: int, byte: int) -> None:
    certificate = CERTIFICATE[:at] + bytes([byte]) + CERTIFICATE[at + 1 :]
    for pair in ((certificate, ISSUER), (CERTIFICATE, certificate)):
        with contextlib.suppress(CannotAsk, MalformedAnswer):
            await fetch_ocsp(answered(GOOD), *pair)


@given(st.binary(max_size=64))
async def test_any_bytes_are_no_certificate_and_no_response(data: bytes) -> None:
    with pytest.raises(CannotAsk):
        await fetch_ocsp(answered(GOOD), data, ISSUER)
    with pytest.raises(FetchError):
        await fetch_ocsp(answered(data), CERTIFICATE, ISSUER)
