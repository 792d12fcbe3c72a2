"""The gateway's HTTP: who may ask, what a request may be, and what hostile ones are told."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from messaging.bots.app import BeyondLoopback, Settings, open_gateway, serving
from messaging.bots.limits import MAX_BODY, MAX_DEPTH, MAX_FIELDS, MAX_FILES, MAX_PATH, MAX_REQUESTS
from messaging.bots.tokens import MANAGE, READ, SEND
from tests.messaging.bots.gateways import Api, World, a_bot, running_api, running_gateway, until

UNAUTHORIZED = {"ok": False, "error_code": 401, "description": "Unauthorized"}
CANARY = "canary-5f1d"


async def answer_of(response: aiohttp.ClientResponse) -> tuple[int, dict[str, object]]:
    body = json.loads(await response.read())
    assert body["error_code"] == response.status
    assert CANARY not in json.dumps(body)
    return response.status, body


# --- who may ask ---


@pytest.mark.parametrize(
    "token",
    [
        "",
        "1234567890",
        "1234567890:",
        "1234567890:" + "x" * 34,
        "1234567890:" + "x" * 43,
        "999:" + "x" * 43,
        "1234567890%3A" + "x" * 43,
        "x" * 60,
        "..%2f..%2fetc",
        "1234567890:" + "x" * 500,
        "9" * 400 + ":" + "x" * 43,
    ],
)
async def test_a_wrong_token_opens_nothing_and_all_look_the_same(api: Api, token: str) -> None:
    for path in (f"/bot{token}/getMe", f"/bot{token}/noSuch", f"/file/bot{token}/f1/x", f"/bot{token}/updates"):
        async with api.http.get(f"{api.url}{path}") as response:
            assert await answer_of(response) == (401, UNAUTHORIZED)


async def test_the_token_of_another_bot_opens_nothing(tmp_path: Path) -> None:
    world = World.make(tmp_path / "accounts")
    first, second = a_bot(1_000_000_001), a_bot(1_000_000_002)
    bots = {world.relay.account(bot=True): first, world.relay.account(bot=True): second}
    async with running_gateway(tmp_path / "gateway", world, bots) as (_, url, tokens), aiohttp.ClientSession() as http:
        foreign = f"{first.number}:{tokens[second.number].partition(':')[2]}"
        async with http.get(f"{url}/bot{foreign}/getMe") as response:
            assert await answer_of(response) == (401, UNAUTHORIZED)
        async with http.get(f"{url}/bot{tokens[second.number]}/getMe") as response:
            assert (await response.json())["result"]["id"] == second.number


async def test_an_expired_token_opens_nothing(api: Api) -> None:
    text, _ = await api.running.add_token([READ], seconds=0)
    async with api.http.get(f"{api.url}/bot{text}/getMe") as response:
        assert await answer_of(response) == (401, UNAUTHORIZED)


@pytest.mark.parametrize(
    ("scope", "method", "may"),
    [
        (READ, "getMe", True),
        (READ, "getUpdates", True),
        (READ, "sendMessage", False),
        (READ, "setWebhook", False),
        (SEND, "sendMessage", True),
        (SEND, "getUpdates", False),
        (SEND, "rotateToken", False),
        (MANAGE, "getParked", True),
        (MANAGE, "sendMessage", False),
        (MANAGE, "getFile", False),
    ],
)
async def test_a_token_opens_what_its_scopes_say(api: Api, scope: str, method: str, *, may: bool) -> None:
    text, _ = await api.running.add_token([scope])
    async with api.http.post(f"{api.url}/bot{text}/{method}", json={"chat_id": 1, "text": "x"}) as response:
        assert (response.status != 403) is may


async def test_without_the_scope_nothing_is_read_by_file_or_socket(api: Api) -> None:
    text, _ = await api.running.add_token([SEND])
    async with api.http.get(f"{api.url}/file/bot{text}/f1/x") as response:
        assert (await answer_of(response))[0] == 403
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await api.http.ws_connect(f"{api.url}/bot{text}/updates")


async def test_a_rotated_token_gives_way_to_the_new_one(api: Api) -> None:
    new = (await api.ok("rotateToken", overlap=60))["token"]
    async with api.http.get(f"{api.url}/bot{new}/getMe") as response:
        assert response.status == 200
    assert await api.ok("getMe")  # for a minute more
    api.token = new
    newest = (await api.ok("rotateToken", overlap=0))["token"]
    async with api.http.get(f"{api.url}/bot{new}/getMe") as response:
        assert await answer_of(response) == (401, UNAUTHORIZED)
    async with api.http.get(f"{api.url}/bot{newest}/getMe") as response:
        assert response.status == 200


async def test_tokens_outlive_the_gateway(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        new = (await api.ok("rotateToken", overlap=0))["token"]
    async with running_api(tmp_path, world=api.world, me=api.me, token=new) as again:
        assert await again.ok("getMe")
        async with again.http.get(f"{again.url}/bot{api.token}/getMe") as response:
            assert await answer_of(response) == (401, UNAUTHORIZED)


async def test_no_token_is_on_the_disk(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.ok("getMe")
        secret = api.token.partition(":")[2].encode()
        for path in tmp_path.rglob("*"):  # noqa: ASYNC240
            assert not path.is_file() or secret not in path.read_bytes()


# --- what a request may be ---


@pytest.mark.parametrize("how", ["query", "form", "json", "multipart", "mixed"])
async def test_parameters_come_in_every_way_that_telegram_has(api: Api, how: str) -> None:
    chat = await api.chat_of(await api.private())
    fields = {"chat_id": str(chat), "text": "Grüße 🌱"}
    with aiohttp.MultipartWriter("form-data") as parts:
        for name, value in fields.items():
            parts.append(value).set_content_disposition("form-data", name=name)
    path = api.path("sendMessage")
    requests = {
        "query": api.http.get(path, params=fields),
        "form": api.http.post(path, data=fields),
        "json": api.http.post(path, json={**fields, "chat_id": chat}),
        "multipart": api.http.post(path, data=parts),
        "mixed": api.http.post(path, params={"chat_id": str(chat)}, json={"text": "Grüße 🌱"}),
    }
    async with requests.pop(how) as response:
        assert (await response.json())["result"]["text"] == "Grüße 🌱"
    for unused in requests.values():
        unused.close()


DEEP = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"nothing", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"chat_id": ' + b"[" * 100_000, "application/json"),
        (f'{{"x": {DEEP}}}'.encode(), "application/json"),
        (json.dumps(dict.fromkeys(map(str, range(MAX_FIELDS + 1)), 1)).encode(), "application/json"),
        (b'{"chat_id": ' + b"9" * 5000 + b"}", "application/json"),
        (b'{"chat_id": NaN, "text": "x"}', "application/json"),
        (b'{"chat_id": 1, "text": "\\ud800"}', "application/json"),
        (b"chat_id=%ff", "application/x-www-form-urlencoded"),
        (b"&".join([b"a=1"] * (MAX_FIELDS + 1)), "application/x-www-form-urlencoded"),
        (b"<x/>", "application/xml"),
        (b"x", "multipart/form-data"),
        (b"--b\r\n\r\nno name\r\n--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (
            b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"x" * 32 + b"\r\n--b--",
            "multipart/form-data; boundary=b",
        ),
    ],
)
async def test_what_cannot_be_read_is_refused_and_not_repeated(api: Api, body: bytes, kind: str) -> None:
    body = body.replace(b"nothing", CANARY.encode())
    async with api.http.post(api.path("sendMessage"), data=body, headers={"Content-Type": kind}) as response:
        assert (await answer_of(response))[0] == 400
    assert await api.ok("getMe")


async def test_an_unknown_method_is_not_found(api: Api) -> None:
    for name in (CANARY, "", "getMe/x", "__init__"):
        async with api.http.get(api.path(name)) as response:
            assert await answer_of(response) == (
                404,
                {"ok": False, "error_code": 404, "description": "Not Found: method not found"},
            )


@pytest.mark.parametrize("path", ["/", "/bots", "/filebot", f"/{CANARY}", "/health/x", "//bot"])
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    async with api.http.get(f"{api.url}{path}") as response:
        assert (await answer_of(response))[0] in (401, 404)


async def test_a_method_is_called_by_get_or_post(api: Api) -> None:
    for verb in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        async with api.http.request(verb, api.path("getMe")) as response:
            assert (await answer_of(response))[0] == 400


async def test_a_path_without_end_is_refused(api: Api) -> None:
    async with api.http.get(api.path("getMe"), params={"x": "x" * MAX_PATH}) as response:
        assert (await answer_of(response))[0] == 400


async def test_a_body_has_a_limit(api: Api) -> None:
    chat = await api.chat_of(await api.private())
    for size, expected in ((MAX_BODY - 100, 400), (MAX_BODY + 1, 413)):
        body = io.BytesIO(json.dumps({"chat_id": chat, "text": "x" * size}).encode())
        async with api.http.post(
            api.path("sendMessage"), data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert (await answer_of(response))[0] == expected


async def test_a_body_of_unknown_length_has_a_limit_too(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1024 + 2):
            yield b"x" * 1024

    async with api.http.post(
        api.path("sendMessage"), data=endless(), headers={"Content-Type": "application/json"}
    ) as response:
        assert (await answer_of(response))[0] == 413


async def test_fields_of_a_form_with_files_have_the_same_limit(api: Api) -> None:
    part = b"--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
    half = b"x" * (MAX_BODY // 2)
    body = io.BytesIO(part % (b"one", half) + part % (b"two", half) + part % (b"three", b"x") + b"--b--")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with api.http.post(api.path("sendDocument"), data=body, headers=headers) as response:
        assert (await answer_of(response))[0] == 413


async def test_a_file_has_a_limit_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_api(tmp_path, max_file=1000) as api:
        chat = await api.chat_of(await api.private())
        for size, expected in ((1000, 200), (1001, 413)):
            form = aiohttp.FormData({"chat_id": str(chat)})
            form.add_field("document", b"x" * size, filename=CANARY)
            async with api.http.post(api.path("sendDocument"), data=form) as response:
                assert response.status == expected
        assert list((tmp_path / "gateway" / "incoming").iterdir()) == []


async def test_files_are_counted(api: Api) -> None:
    form = aiohttp.FormData({"chat_id": "1"})
    for number in range(MAX_FILES + 1):
        form.add_field(f"f{number}", b"x", filename="x")
    async with api.http.post(api.path("sendDocument"), data=form) as response:
        assert (await answer_of(response))[0] == 413


async def test_no_compressed_body_is_unpacked(api: Api) -> None:
    async with api.http.post(
        api.path("getMe"), data=b"x" * 10, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
    ) as response:
        assert (await answer_of(response))[0] == 400


async def test_too_many_requests_of_one_bot_are_turned_away(api: Api) -> None:
    waiting = [
        asyncio.create_task(api.call("getUpdates", consumer=str(number), timeout=50)) for number in range(MAX_REQUESTS)
    ]
    await until(lambda: api.running._requests == MAX_REQUESTS)
    refused = await api.call("getMe")
    assert refused.status == 429
    assert refused.body["parameters"] == {"retry_after": 1}
    api.running.end_waiting()
    assert {answered.status for answered in await asyncio.gather(*waiting)} == {503}


# --- slow and broken clients ---


async def raw(api: Api, data: bytes, *, seconds: float = 10) -> bytes:
    """Send bytes, and read until the gateway closes."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


async def test_a_head_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async with running_api(tmp_path, head_seconds=0.3) as api:
        assert await raw(api, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""


async def test_a_body_that_does_not_come_is_cut(tmp_path: Path) -> None:
    async with running_api(tmp_path, body_seconds=0.3) as api:
        head = f"POST /bot{api.token}/getMe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        answer = await raw(api, f"{head}Content-Length: 10\r\n\r\n{{".encode())
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_file_that_does_not_come_is_cut(tmp_path: Path) -> None:
    async with running_api(tmp_path, file_seconds=0.3) as api:
        head = f"POST /bot{api.token}/sendDocument HTTP/1.1\r\nHost: x\r\n"
        part = "--b\r\nContent-Disposition: form-data; name=document; filename=x\r\n\r\nsome"
        kind = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
        answer = await raw(api, f"{head}{kind}{part}".encode())
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert list((tmp_path / "gateway" / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"canary-5f1d\r\n\r\n",
        b"GET /health HTTP/1.1\r\ncanary-5f1d\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_not_http_is_not_repeated(tmp_path: Path, data: bytes) -> None:
    async with running_api(tmp_path, head_seconds=1) as api:
        answer = await raw(api, data)
        assert b"canary" not in answer
        assert b" 400 " in answer.partition(b"\r\n")[0] or answer == b""


# --- what is open to all ---


async def test_health_tells_numbers_and_nothing_of_any_bot(api: Api) -> None:
    async with api.http.get(f"{api.url}/health") as response:
        assert await response.json() == {"ok": True, "bots": 1, "connected": 1}


@pytest.mark.parametrize("path", ["/health", "/openapi.json"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("localhost", 200),
        ("[::1]:8081", 200),
        ("page.example:8081", 403),
        ("127.0.0.1.page.example", 403),
        ("localhost@page.example", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_a_page_whose_name_leads_here_is_told_nothing(api: Api, path: str, host: str, status: int) -> None:
    async with api.http.get(f"{api.url}{path}", headers={"Host": host}) as response:
        assert response.status == status


async def test_where_others_can_connect_it_has_any_name(tmp_path: Path) -> None:
    async with (
        running_api(tmp_path, host="0.0.0.0", unsafe_listen_beyond_loopback=True) as api,  # noqa: S104
        api.http.get(f"{api.url}/health", headers={"Host": "gateway:8081"}) as response,
    ):
        assert response.status == 200


async def test_answers_say_nothing_of_what_serves_them_and_are_not_kept(api: Api) -> None:
    async with api.http.get(api.path("getMe")) as response:
        assert response.headers["Server"] == "subrosa"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_of_a_request_is_logged(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    chat = await api.chat_of(await api.private())
    await api.ok("sendMessage", chat_id=chat, text=CANARY)
    await api.call(CANARY)
    await api.call("sendMessage", chat_id=chat, text={"x": CANARY})
    written = "".join(capfd.readouterr())
    assert CANARY not in written
    assert api.token.partition(":")[2] not in written


# --- where it listens ---


async def test_does_not_listen_where_others_can_reach_it_unless_it_is_told_to(tmp_path: Path) -> None:
    world = World.make(tmp_path / "accounts")
    for unsafe in (False, True):
        settings = Settings(home=tmp_path / "gateway", host="0.0.0.0", port=0, unsafe_listen_beyond_loopback=unsafe)  # noqa: S104
        async with open_gateway(settings, lambda bot: world.account(bot, world.alice)) as gateway:
            if unsafe:
                async with serving(gateway) as (host, _):
                    assert host == "0.0.0.0"  # noqa: S104
            else:
                with pytest.raises(BeyondLoopback):
                    async with serving(gateway):
                        pass
