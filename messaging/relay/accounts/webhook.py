"""Codes by way of the operator's own SMS or e-mail sender: one signed HTTP POST for each code.

The form is that of the Standard Webhooks specification 1.0.0 (standardwebhooks.com): the receiver verifies
``webhook-signature`` and may take ``webhook-id`` as an idempotency key, because what is tried again keeps its id. The URL may
carry a secret: like number and code, it is in no error and no log. Redirects are not followed, and of the answer only
the status is read.
"""

import asyncio
import base64
import binascii
import hmac
import json
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

import aiohttp
from yarl import URL

from messaging.relay.accounts.providers import CodeMessage, DeliveryFailed
from messaging.relay.errors import StartupError
from messaging.serving.http import is_loopback

DELIVERY_SECONDS = 10  # for one code, with all attempts and the pauses between them
RETRY_PAUSES = (0.5, 1.5)  # seconds before the second and the third attempt
MIN_SECRET, MAX_SECRET = 24, 64  # bytes of the secret (Standard Webhooks: 192 to 512 bits)
MAX_BODY = 1024  # bytes of what is sent
_PREFIX = "whsec_"
_TEMPORARY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def parse_secret(text: str) -> bytes:
    """The key in ``whsec_`` and base64.

    Raises:
        StartupError: another form, or a key that is too short or too long.
    """
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True) if text.startswith(_PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise StartupError(f"the webhook secret must be {_PREFIX} and base64 of {MIN_SECRET} to {MAX_SECRET} bytes")
    return key


def read_webhook_secret(path: Path) -> bytes:
    """The key in a file.

    Raises:
        StartupError: the file cannot be read, or see :func:`parse_secret`.
    """
    try:
        return parse_secret(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise StartupError(f"cannot read the webhook secret file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError("the webhook secret file holds something else") from None


def parse_url(text: str) -> URL:
    """Where codes are posted: over TLS, unless it is on this machine.

    Raises:
        StartupError: not such a URL.
    """
    try:
        url = URL(text)
    except ValueError:
        raise StartupError("the URL of the webhook is not a URL") from None
    if not url.host or url.scheme not in ("https", "http"):
        raise StartupError("the URL of the webhook must be https://HOST/...")
    if url.scheme == "http" and not is_loopback(url.host):
        raise StartupError("the webhook must be https, unless its host is this machine")
    return url


def body_of(message: CodeMessage) -> bytes:
    """What is posted; at most ``MAX_BODY`` bytes for any message that the relay can have."""
    members = {"number": message.number, "code": message.code, "transport": message.transport}
    if message.client:
        members["client"] = message.client
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def signature_of(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``; ``timestamp`` is in seconds since 1970 (Standard Webhooks, "Signature scheme")."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode()


def failure_of(status: int) -> DeliveryFailed | None:
    """What an answer means: 2xx is delivered; 4xx is a refusal for good, unless it asks for patience."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return DeliveryFailed(permanent=refused and status not in _TEMPORARY, status=status)


def may_be_repeated(failure: DeliveryFailed) -> bool:
    """Whether it is polite to try again at once: after a fault of the receiver or of the way, not after an answer."""
    return failure.status is None or failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class WebhookProvider:
    """Posts codes to ``url``. ``now`` gives milliseconds since 1970; ``timeout`` and ``pauses`` are seconds."""

    url: URL = field(repr=False)
    key: bytes = field(repr=False)
    now: Callable[[], int]
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)
    timeout: float = DELIVERY_SECONDS
    pauses: tuple[float, ...] = RETRY_PAUSES

    async def deliver(self, message: CodeMessage) -> None:
        """Post the code, up to three times, within the time that there is for all of it."""
        message_id, body = f"msg_{secrets.token_hex(16)}", body_of(message)
        try:
            async with asyncio.timeout(self.timeout), self._open() as http:
                failure = await self._post(http, message_id, body)
                for pause in self.pauses:
                    if failure is None or not may_be_repeated(failure):
                        break
                    await asyncio.sleep(pause)
                    failure = await self._post(http, message_id, body)
        except TimeoutError as error:
            raise DeliveryFailed(permanent=False, error=type(error).__name__) from None
        if failure is not None:
            raise failure

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.tls)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def _post(self, http: aiohttp.ClientSession, message_id: str, body: bytes) -> DeliveryFailed | None:
        timestamp = self.now() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "subrosa",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature_of(self.key, message_id, timestamp, body),
        }
        try:
            async with http.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
                return failure_of(response.status)
        except (aiohttp.ClientError, OSError) as error:
            return DeliveryFailed(permanent=False, error=type(error).__name__)
