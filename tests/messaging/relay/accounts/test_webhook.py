"""Codes by way of the operator's sender: what is posted, how it is signed, and what each answer means."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from messaging.relay.accounts.providers import CodeMessage, DeliveryFailed
from messaging.relay.accounts.webhook import (
    DELIVERY_SECONDS,
    MAX_BODY,
    MAX_SECRET,
    MIN_SECRET,
    RETRY_PAUSES,
    WebhookProvider,
    body_of,
    failure_of,
    parse_secret,
    parse_url,
    read_webhook_secret,
    signature_of,
)
from messaging.relay.app import now_milliseconds
from messaging.relay.errors import StartupError
from messaging.relay.server import tls_context
from messaging.wire.limits import MAX_CLIENT_NAME
from tests.devices import MakePeer, a_number
from tests.relays import Relays, TlsFiles
from tests.webhooks import Receiver, receiving

VECTOR = json.loads((Path(__file__).parents[3] / "vectors" / "standard_webhooks.json").read_text())
SESSIONS = "/v1/verification/session"
VOICE = {"transport": "voice", "client": "ios"}
MESSAGE = CodeMessage("+4915550000101", "123456", "sms", "ios")


def provider_for(receiver: Receiver, **changes: Any) -> WebhookProvider:
    values: dict[str, Any] = {"key": receiver.key, "now": now_milliseconds, "pauses": (0, 0), **changes}
    return WebhookProvider(URL(receiver.url), **values)


async def failure(provider: WebhookProvider) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await provider.deliver(MESSAGE)
    return caught.value


def test_the_published_vector_is_signed_as_published() -> None:
    key = parse_secret(VECTOR["secret"])
    assert signature_of(key, VECTOR["id"], VECTOR["timestamp"], VECTOR["body"].encode()) == VECTOR["signature"]


@pytest.mark.parametrize("size", [MIN_SECRET, MAX_SECRET])
def test_a_secret_may_have_24_to_64_bytes(size: int, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"whsec_{base64.b64encode(bytes(size)).decode()}\n")
    assert read_webhook_secret(path) == bytes(size)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_CANARY!",
        "CANARY",
        base64.b64encode(bytes(32)).decode(),
        f"whsk_{base64.b64encode(bytes(32)).decode()}",
        f"whsec_{base64.b64encode(bytes(MIN_SECRET - 1)).decode()}",
        f"whsec_{base64.b64encode(bytes(MAX_SECRET + 1)).decode()}",
        f"whsec_{base64.b64encode(bytes(32)).decode().rstrip('=')}",
    ],
)
def test_another_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(StartupError, match="whsec_ and base64 of 24 to 64 bytes") as caught:
        parse_secret(text)
    assert "CANARY" not in str(caught.value)


def test_a_secret_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot read the webhook secret file"):
        read_webhook_secret(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(StartupError, match="something else"):
        read_webhook_secret(tmp_path / "binary")


@pytest.mark.parametrize(
    "text", ["https://sms.example.org/codes?token=x", "http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/x"]
)
def test_a_webhook_is_on_this_machine_or_behind_tls(text: str) -> None:
    assert str(parse_url(text)) == text


@pytest.mark.parametrize(
    "text",
    ["http://CANARY.example.org/", "http://10.0.0.1/CANARY", "ftp://h/CANARY", "CANARY", "https://", "https://[CANARY"],
)
def test_another_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse_url(text)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("character", ["a", "\x00", "\U0001f339", '"'])
def test_the_largest_body_is_within_its_bound(character: str) -> None:
    body = body_of(CodeMessage("+" + "9" * 15, "000000", "voice", character * MAX_CLIENT_NAME))
    assert len(body) <= MAX_BODY
    assert json.loads(body)["client"] == character * MAX_CLIENT_NAME


def test_a_client_without_a_name_is_left_out() -> None:
    assert json.loads(body_of(CodeMessage("+4915550000101", "123456", "sms", ""))) == {
        "number": "+4915550000101",
        "code": "123456",
        "transport": "sms",
    }


@pytest.mark.parametrize("status", [400, 401, 404, 422, 499])
def test_a_refusal_is_permanent(status: int) -> None:
    failed = failure_of(status)
    assert failed is not None
    assert (failed.permanent, failed.status) == (True, status)


@pytest.mark.parametrize("status", [199, 300, 302, 399, 408, 429, 500, 503, 599])
def test_a_fault_is_not(status: int) -> None:
    failed = failure_of(status)
    assert failed is not None
    assert (failed.permanent, failed.status) == (False, status)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert failure_of(status) is None


async def test_a_code_reaches_the_sender_signed_and_verifies(
    relays: Relays, backend: str, peer_of: MakePeer, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        relay = await relays.start(
            backend, verification=f"webhook:{receiver.url}", webhook_secret_file=receiver.secret_file(tmp_path)
        )
        peer, number = peer_of(relay), a_number()
        path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': number})).json()['id']}/code"
        requested = await peer.call("POST", path, VOICE)
        assert (requested.status, requested.json()["nextVerificationAttempt"]) == (200, 0)
        [body], [headers] = receiver.bodies, receiver.headers
        assert body == {"number": number, "code": body["code"], "transport": "voice", "client": "ios"}
        assert (headers["content-type"], headers["user-agent"]) == ("application/json", "subrosa")
        assert "." not in headers["webhook-id"]
        assert (await peer.call("PUT", path, {"code": body["code"]})).json()["verified"] is True
    assert receiver.refused == 0


async def test_what_is_signed_with_another_secret_is_refused_by_the_receiver() -> None:
    async with receiving() as receiver:
        failed = await failure(provider_for(receiver, key=bytes(32)))
    assert (failed.permanent, failed.status, receiver.refused, receiver.bodies) == (True, 401, 1, [])


async def test_a_fault_is_tried_again_under_the_same_id() -> None:
    async with receiving(503, 500, 204) as receiver:
        await provider_for(receiver).deliver(MESSAGE)
        await provider_for(receiver).deliver(MESSAGE)
    first, again, third, other = receiver.ids
    assert first == again == third != other


async def test_after_three_attempts_it_is_given_up_for_now() -> None:
    async with receiving(503) as receiver:
        failed = await failure(provider_for(receiver))
    assert (failed.permanent, failed.status, len(receiver.ids)) == (False, 503, 3)
    assert len(RETRY_PAUSES) == 2
    assert sum(RETRY_PAUSES) < DELIVERY_SECONDS == 10


@pytest.mark.parametrize("status", [302, 307, 400, 408, 429])
async def test_an_answer_is_not_asked_for_twice_and_a_redirect_not_followed(status: int) -> None:
    async def elsewhere(_request: web.BaseRequest, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with receiving(elsewhere) as receiver:
        failed = await failure(provider_for(receiver))
    assert (failed.status, len(receiver.ids), receiver.refused) == (status, 1, 0)


async def test_a_sender_that_does_not_answer_in_time_is_given_up_for_now() -> None:
    async def never(_request: web.BaseRequest, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with receiving(never) as receiver:
        started = time.monotonic()
        failed = await failure(provider_for(receiver, timeout=0.2))
        assert time.monotonic() - started < 5
    assert (failed.permanent, failed.error, len(receiver.ids)) == (False, "TimeoutError", 1)


async def test_the_body_of_an_answer_is_not_read() -> None:
    async def endless(request: web.BaseRequest, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    async with receiving(endless) as receiver:
        await provider_for(receiver, timeout=5).deliver(MESSAGE)
    assert len(receiver.ids) == 1


async def test_a_sender_that_is_not_there_is_given_up_for_now() -> None:
    async with receiving() as receiver:
        provider = provider_for(receiver)
    failed = await failure(provider)
    assert (failed.permanent, failed.error) == (False, "ClientConnectorError")
    assert str(provider.url) not in f"{failed!r}{failed.__context__!r}{provider!r}"


async def test_tls_is_verified(tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving(tls=tls_context(tls_files.certificate, tls_files.key)) as receiver:
        failed = await failure(provider_for(receiver))
        assert (failed.permanent, failed.error) == (False, "ClientConnectorCertificateError")
        assert receiver.ids == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tls_files.certificate))
        await provider_for(receiver).deliver(MESSAGE)
    assert len(receiver.ids) == 1


async def refused_by(receiver: Receiver, relays: Relays, peer_of: MakePeer, folder: Path) -> tuple[dict[str, Any], int]:
    """What is said of a code that was not delivered; and the status of the next request for one."""
    relay = await relays.start(
        "sqlite", verification=f"webhook:{receiver.url}", webhook_secret_file=receiver.secret_file(folder)
    )
    peer = peer_of(relay)
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': a_number()})).json()['id']}/code"
    failed = await peer.call("POST", path, VOICE)
    assert failed.status == 440
    return failed.json(), (await peer.call("POST", path, VOICE)).status


async def test_a_code_that_cannot_be_sent_now_may_be_asked_for_again(
    relays: Relays, peer_of: MakePeer, tmp_path: Path
) -> None:
    async with receiving(429, 204) as receiver:
        said, again = await refused_by(receiver, relays, peer_of, tmp_path)
    assert (said, again) == ({"reason": "providerUnavailable", "permanentFailure": False}, 200)
    assert len({body["code"] for body in receiver.bodies}) == len(set(receiver.ids)) == 2


async def test_a_number_that_the_sender_refuses_gets_no_other_code(
    relays: Relays, peer_of: MakePeer, tmp_path: Path
) -> None:
    async with receiving(422, 204) as receiver:
        said, again = await refused_by(receiver, relays, peer_of, tmp_path)
    assert (said, again) == ({"reason": "providerRejected", "permanentFailure": True}, 429)
    assert len(receiver.ids) == 1


async def test_a_code_that_arrived_before_the_sender_failed_still_counts(
    relays: Relays, peer_of: MakePeer, tmp_path: Path
) -> None:
    async def submit_and_fail(_request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        assert (await peer.call("PUT", path, {"code": body["code"]})).json()["verified"] is True
        return web.Response(status=429)

    async with receiving(submit_and_fail) as receiver:
        relay = await relays.start(
            "sqlite", verification=f"webhook:{receiver.url}", webhook_secret_file=receiver.secret_file(tmp_path)
        )
        peer = peer_of(relay)
        session = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': a_number()})).json()['id']}"
        path = f"{session}/code"
        assert (await peer.call("POST", path, VOICE)).status == 440
        assert (await peer.call("GET", session)).json()["verified"] is True
