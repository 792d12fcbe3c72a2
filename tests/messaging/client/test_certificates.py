"""One certificate serves all sends of nearly a day, and only one that receivers will believe is used."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from messaging.client.account import Account
from messaging.client.certificates import MARGIN, Certificates, is_fresh
from messaging.client.connection import ChatConnection, Relay
from messaging.client.errors import RelayRefused, TrustRootChanged
from messaging.client.requests import Requests
from messaging.wire.frames import Request, Response
from messaging.wire.identifiers import ServiceId
from messaging.wire.messages import DeliveryCertificate
from signal_protocol.public import KeyPair, generate_key_pair
from signal_protocol.public.certificates import issue_sender_certificate, issue_server_certificate
from signal_protocol.types import Identity

ROOT, SERVER, OWN = generate_key_pair(), generate_key_pair(), generate_key_pair()
ANN = ServiceId(UUID(int=1))
DAY = 24 * 60 * 60 * 1000
ACCOUNT = Account(ANN, "password", Identity(OWN.public, OWN.private), 1, bytes(32), ROOT.public)


async def ignore(_request: Request) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Issuer(Requests):
    """Answers like a relay, and counts."""

    answer: Callable[[int], Response] = field(kw_only=True)
    asked: list[str] = field(default_factory=list, kw_only=True)

    async def authenticated(self, verb: str, path: str, body: bytes | None = None) -> Response:
        self.asked.append(f"{verb} {path}")
        return self.answer(len(self.asked))


def issuer(answer: Callable[[int], Response]) -> Issuer:
    relay = Relay("http://127.0.0.1:9")
    return Issuer(relay, ChatConnection(relay, "", ignore), 1.0, answer=answer)


def issued(
    *, expires: int, root: KeyPair = ROOT, sender: ServiceId = ANN, device_id: int = 1, key: bytes = OWN.public
) -> Response:
    server = issue_server_certificate(root.private, key_id=1, key=SERVER.public)
    data = issue_sender_certificate(
        server, SERVER.private, sender=str(sender), device_id=device_id, identity_key=key, expires=expires
    )
    return Response(1, 200, body=DeliveryCertificate(certificate=data).to_json())


def test_a_certificate_is_fresh_until_an_hour_before_its_end() -> None:
    assert is_fresh(DAY, DAY - MARGIN - 1)
    assert not is_fresh(DAY, DAY - MARGIN)


async def test_one_is_fetched_and_used_until_shortly_before_it_expires() -> None:
    clock = 0
    relay = issuer(lambda number: issued(expires=number * DAY))
    certificates = Certificates(ACCOUNT, relay, lambda: clock)
    first = await certificates.current()
    clock = DAY - MARGIN - 1
    assert await certificates.current() is first
    assert relay.asked == ["GET /v1/certificate/delivery"]
    clock = DAY - MARGIN
    assert (await certificates.current()).expires == 2 * DAY
    assert len(relay.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        issued(expires=DAY, root=generate_key_pair()),
        issued(expires=DAY, sender=ServiceId(UUID(int=2))),
        issued(expires=DAY, device_id=2),
        issued(expires=DAY, key=generate_key_pair().public),
        Response(1, 200, body=b"{}"),
        Response(1, 200, body=b'{"certificate":"AAAA"}'),
    ],
)
async def test_one_that_receivers_would_not_believe_is_not_used(answer: Response) -> None:
    certificates = Certificates(ACCOUNT, issuer(lambda _: answer), lambda: 0)
    with pytest.raises(TrustRootChanged):
        await certificates.current()


async def test_a_relay_that_gives_none_is_named() -> None:
    certificates = Certificates(ACCOUNT, issuer(lambda _: Response(1, 404)), lambda: 0)
    with pytest.raises(RelayRefused):
        await certificates.current()
