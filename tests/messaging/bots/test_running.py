"""One bot while the gateway runs: its account comes and goes, and other bots do not notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from messaging.bots.app import Settings, open_gateway, serving, tls_context
from messaging.bots.errors import ApiError, BadRequest, Unauthorized
from messaging.bots.limits import MAX_TOKENS
from messaging.bots.polling import Polling
from messaging.bots.records import Bot, Webhook
from messaging.bots.webhooks import new_signing_secret
from messaging.client.errors import RelayUnreachable, StoreFailed, StoreInUse
from messaging.client.testing import MemoryAccount
from tests.messaging.bots.gateways import Api, World, a_bot, until
from tests.relays import TlsFiles


async def test_an_account_that_cannot_be_opened_is_tried_again_and_others_go_on(tmp_path: Path) -> None:
    world = World.make(tmp_path / "accounts")
    good, bad = a_bot(1_000_000_001), a_bot(1_000_000_002)
    tries = 0

    @asynccontextmanager
    async def open_account(bot: Bot) -> AsyncIterator[MemoryAccount]:
        nonlocal tries
        if bot == bad:
            tries += 1
            if tries == 1:
                raise RelayUnreachable
        async with world.account(bot, world.relay.account(bot=True)) as account:
            yield account

    settings = Settings(home=tmp_path / "gateway", port=0)
    async with (
        open_gateway(settings, open_account) as gateway,
        serving(gateway) as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}") as http,
    ):
        tokens = [await gateway.add(bot) for bot in (good, bad)]
        for number in gateway.bots:
            gateway.start(number)
        await until(lambda: gateway.bots[good.number].is_connected)
        async with http.get(f"/bot{tokens[1]}/getUpdates") as response:
            assert response.status == 503
            assert (await response.json())["error_code"] == 503
        async with http.get("/health") as response:
            assert await response.json() == {"ok": False, "bots": 2, "connected": 1}
        async with http.get(f"/bot{tokens[0]}/getUpdates") as response:
            assert response.status == 200
        await until(lambda: gateway.bots[bad.number].is_connected)
        async with http.get(f"/bot{tokens[1]}/getUpdates") as response:
            assert response.status == 200


async def test_a_home_has_one_gateway(tmp_path: Path) -> None:
    world = World.make(tmp_path / "accounts")
    settings = Settings(home=tmp_path / "gateway", port=0)

    def open_account(bot: Bot) -> object:
        return world.account(bot, world.alice)

    async with open_gateway(settings, open_account):  # type: ignore[arg-type]
        with pytest.raises(StoreInUse):
            async with open_gateway(settings, open_account):  # type: ignore[arg-type]
                pass


async def test_a_bot_has_so_many_tokens_and_no_more(api: Api) -> None:
    while len(api.running.tokens) < MAX_TOKENS:
        await api.running.add_token(["read"])
    with pytest.raises(BadRequest, match="too many tokens"):
        await api.running.add_token(["read"])
    await api.running.revoke(api.running.tokens[-1].id)
    await api.running.add_token(["read"])


async def test_a_token_that_has_ended_makes_room_and_is_forgotten(api: Api) -> None:
    for _ in range(MAX_TOKENS):
        await api.running.add_token(["read"], seconds=0)
    await api.running.add_token(["read"])
    assert len(await api.gateway.records.tokens(api.number)) == 2


async def test_a_token_that_expires_is_rotated_to_one_that_expires_with_it(api: Api) -> None:
    _, old = await api.running.add_token(["read"], seconds=3600)
    text, _ = await api.running.rotate(old, overlap=60)
    assert api.running.authenticate(text).expires_at == old.expires_at


async def test_a_token_that_was_rotated_gives_no_other_one(api: Api) -> None:
    text, old = await api.running.add_token(["read"])
    await api.running.rotate(old, overlap=60)
    with pytest.raises(BadRequest, match="has been rotated"):
        await api.running.rotate(old, overlap=60)
    with pytest.raises(BadRequest, match="has been rotated"):
        await api.running.rotate(api.running.authenticate(text), overlap=60)
    assert len(api.running.tokens) == 3


async def test_a_token_that_is_gone_gives_no_other_one(api: Api) -> None:
    _, old = await api.running.add_token(["read"])
    await api.running.revoke(old.id)
    with pytest.raises(Unauthorized):
        await api.running.rotate(old, overlap=60)


async def test_tokens_that_change_at_once_are_all_kept(api: Api) -> None:
    (first,) = api.running.tokens
    _, ended = await api.running.add_token(["read"])
    made = await asyncio.gather(
        *(api.running.add_token(["read"]) for _ in range(5)), api.running.rotate(first, overlap=60)
    )
    await asyncio.gather(api.running.add_token(["send"]), api.running.revoke(ended.id))
    assert all(api.running.authenticate(text) for text, _ in made)
    assert ended.id not in {token.id for token in api.running.tokens}
    stored = await api.gateway.records.tokens(api.number)
    assert {token.id for token in stored} == {token.id for token in api.running.tokens}


async def test_a_token_that_cannot_be_deleted_opens_nothing_all_the_same(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def on_a_full_disk(*_: object) -> bool:
        raise StoreFailed

    text, token = await api.running.add_token(["read"])
    monkeypatch.setattr(api.gateway.records, "delete_token", on_a_full_disk)
    with pytest.raises(StoreFailed):
        await api.running.revoke(token.id)
    with pytest.raises(Unauthorized):
        api.running.authenticate(text)


async def test_of_webhooks_that_are_set_at_once_one_is_delivered_to(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    close = Polling.close

    async def takes_its_time(polling: Polling, told: ApiError | None = None) -> None:
        await asyncio.sleep(0.1)  # a disk that others use, too
        await close(polling, told)

    monkeypatch.setattr(Polling, "close", takes_its_time)
    targets = [Webhook(f"http://127.0.0.1:9/{number}", new_signing_secret()) for number in range(4)]
    await asyncio.gather(*(api.running.set_webhook(each) for each in targets))
    assert deliveries() == 1
    assert api.running.delivery is not None
    assert api.running.delivery.webhook == api.running.bot.webhook
    await api.running.set_webhook(None)
    assert deliveries() == 0


def deliveries() -> int:
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return sum(getattr(each, "__qualname__", "") == "Delivery.run" for each in coroutines)


async def test_what_a_crash_left_of_a_request_is_gone_at_the_next_start(tmp_path: Path) -> None:
    world = World.make(tmp_path / "accounts")
    settings = Settings(home=tmp_path / "gateway", port=0)
    left = tmp_path / "gateway" / "incoming" / "file"
    async with open_gateway(settings, lambda bot: world.account(bot, world.alice)) as gateway:
        left.parent.mkdir()
        left.write_bytes(b"plaintext")
        async with serving(gateway):
            assert not left.exists()


def test_an_authority_of_the_operator_is_trusted_besides_the_public_ones(tls_files: TlsFiles) -> None:
    with_it, without = tls_context(tls_files.certificate), tls_context(None)
    assert with_it.cert_store_stats()["x509"] == without.cert_store_stats()["x509"] + 1
