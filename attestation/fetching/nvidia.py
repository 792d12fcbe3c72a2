"""NVIDIA's two services: reference integrity manifests by name, and the status of certificates (OCSP).

Certificates of GPUs end in the year 9999, so that their status is all that says that one was withdrawn. The service
answers for each certificate of a chain but the leaf, which the GPU makes itself, and the root.

Source: NVIDIA attestation documentation, RIM service (GET /v1/rim/{id}), and the local verifier in NVIDIA/nvtrust
(guest_tools/gpu_verifiers): names of certificates hashed with SHA-384. OCSP: RFC 6960, section 4 and appendix A.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from functools import partial

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder, OCSPResponseStatus, load_der_ocsp_response

from attestation.errors import MalformedCollateral
from attestation.fetching.errors import CannotAsk, NotKnown, RateLimited
from attestation.fetching.forms import NotInForm, from_hex, strict_object
from attestation.fetching.transport import DEADLINE, Kind, Request, Response, Transport, ask
from attestation.limits import MAX_OCSP, MAX_RIM
from attestation.parsing.certificate import Certificate

RIM_URL = "https://rim.attestation.nvidia.com"
OCSP_URL = "https://ocsp.ndis.nvidia.com/"  # certificates name it with http; NVIDIA's own verifier asks it with https
RIM_SERVICE = "NVIDIA's reference manifest service"
OCSP_SERVICE = "NVIDIA's certificate status service"
MAX_RIM_ANSWER = 4 * (MAX_RIM // 3 + 1) + 4096  # bytes: base64, and the members around it
SHA256 = 32  # bytes
_RIM_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")


async def fetch_rim(
    transport: Transport, rim_id: str, *, url: str = RIM_URL, key: str | None = None, deadline: float = DEADLINE
) -> bytes:
    """A reference integrity manifest: the XML of its SWID tag, signature included.

    Args:
        transport: how to reach the service.
        rim_id: as in NV_GPU_DRIVER_GH100_550.144.03; it names a version, not a machine.
        url: of the service, or of a mirror.
        key: an API key of NVIDIA's, for higher limits. Secret.
        deadline: seconds.

    Raises:
        FetchError: there is none.
    """
    if not _RIM_ID.fullmatch(rim_id):
        raise CannotAsk(RIM_SERVICE, "cannot be asked for a manifest of such a name")
    headers = [("Accept", "application/json")]
    if key is not None:
        headers.append(("Authorization", f"Bearer {key}"))
    address = f"{url.rstrip('/')}/v1/rim/{rim_id}"
    request = Request("GET", address, headers=tuple(headers), limit=MAX_RIM_ANSWER, kind=Kind.RIM)
    return await ask(transport, request, service=RIM_SERVICE, read=partial(_read_rim, rim_id), deadline=deadline)


async def fetch_ocsp(
    transport: Transport, certificate: bytes, issuer: bytes, *, url: str = OCSP_URL, deadline: float = DEADLINE
) -> bytes:
    """What NVIDIA says of one certificate: a response in DER that is signed and says itself how long it holds.

    No nonce is sent: the response has to convince others too, later, out of a bundle. Its age is the appraisal's to
    judge.

    Args:
        transport: how to reach the service.
        certificate: in DER. The service learns its serial number, which names a chip.
        issuer: the next certificate of the chain, in DER.
        url: of the service.
        deadline: seconds.

    Raises:
        FetchError: there is none. ``NotKnown``: the service does not speak about this certificate.
    """
    serial_number, body = _question(certificate, issuer)
    headers = (("Accept", "application/ocsp-response"), ("Content-Type", "application/ocsp-request"))
    request = Request("POST", url, headers=headers, body=body, limit=MAX_OCSP, kind=Kind.OCSP)
    read: Callable[[Response], bytes] = partial(_read_ocsp, serial_number)
    return await ask(transport, request, service=OCSP_SERVICE, read=read, deadline=deadline)


def _read_rim(rim_id: str, response: Response) -> bytes:
    """Members are ``id``, ``rim``, ``sha256``, ``rim_format`` and two more; these four count."""
    members = strict_object(response.body)
    if members.get("id") != rim_id:
        raise NotInForm("it is about another manifest")
    if members.get("rim_format", "TCG") != "TCG":
        raise NotInForm("the manifest is not a SWID tag in XML, which alone this version reads")
    manifest = _from_base64(members.get("rim"))
    if not 0 < len(manifest) <= MAX_RIM or not manifest.lstrip().startswith(b"<"):
        raise NotInForm("the manifest is not a small XML document")
    digest = members.get("sha256")
    if digest is not None and from_hex(digest, SHA256) != hashlib.sha256(manifest).digest():
        raise NotInForm("the manifest was damaged on its way")
    return manifest


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise NotInForm("the manifest is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotInForm("the manifest is not base64") from None


def _read_ocsp(serial_number: int, response: Response) -> bytes:
    try:
        answer = load_der_ocsp_response(response.body)
        status = answer.response_status
        successful = status is OCSPResponseStatus.SUCCESSFUL
        about = {single.serial_number for single in answer.responses} if successful else set()
    except (ValueError, UnsupportedAlgorithm):
        raise NotInForm("it is not an OCSP response") from None
    if status in (OCSPResponseStatus.UNAUTHORIZED, OCSPResponseStatus.MALFORMED_REQUEST):
        raise NotKnown(OCSP_SERVICE)
    if status is OCSPResponseStatus.TRY_LATER:
        raise RateLimited(OCSP_SERVICE)
    if serial_number not in about:
        raise NotInForm("it says nothing about this certificate")
    return response.body


def _question(certificate: bytes, issuer: bytes) -> tuple[int, bytes]:
    """The serial number, and the request in DER (RFC 6960, section 4.1.1)."""
    try:
        subject, signer = Certificate.parse(certificate), Certificate.parse(issuer)
    except MalformedCollateral:
        raise CannotAsk(OCSP_SERVICE, "cannot be asked about a certificate that cannot be read") from None
    name, key = hashlib.sha384(subject.issuer).digest(), hashlib.sha384(signer.public_key_bits).digest()
    request = OCSPRequestBuilder().add_certificate_by_hash(name, key, subject.serial, SHA384()).build()
    return subject.serial, request.public_bytes(Encoding.DER)
