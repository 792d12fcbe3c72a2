"""The vendors' services in memory, with documents that were really published, and the form of their answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.fetching import Request, Response, TransportFailed

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

WEB_PAGE = Response(
    200, (("Content-Type", "text/html; charset=utf-8"),), b"<!doctype html><title>Welcome to the hotel</title>"
)
UNNAMED_PAGE = Response(200, (), WEB_PAGE.body)


@dataclass
class Scripted:
    """A transport that answers by address, and knows nothing else; an exception is raised instead of answered."""

    answers: Mapping[str, Response | Exception]
    asked: list[Request] = field(default_factory=list)

    async def fetch(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.get(request.url, Response(404))
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Always:
    """A transport that gives one answer to everything; ``None``: there is no network."""

    answer: Response | None
    asked: list[Request] = field(default_factory=list)

    async def fetch(self, request: Request) -> Response:
        self.asked.append(request)
        if self.answer is None:
            raise TransportFailed(f"cannot connect to {request.url}")
        return self.answer


@dataclass(frozen=True)
class Authority:
    """A certificate authority that exists for one test, and the name it has."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str = "A test authority") -> "Authority":
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return cls(key, subject, _certificate(subject, key, subject, key))

    def issue(self, name: str = "A test chip") -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return _certificate(subject, ec.generate_private_key(ec.SECP384R1()), self.name, self.key)

    def crl(self) -> bytes:
        """A revocation list of nobody."""
        builder = x509.CertificateRevocationListBuilder(self.name, NOW, NOW + timedelta(days=30))
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=30))
    builder = builder.add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
    return builder.sign(signer, SHA256())
