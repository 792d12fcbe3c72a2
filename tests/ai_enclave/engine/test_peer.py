"""A model server is used as far as it keeps to what it was told, and its faults are nobody's but its own.

The first part is the contract of a writer: it runs against the stand-in, and against a real vLLM if SUBROSA_VLLM_URL (and
SUBROSA_VLLM_MODEL) say where one is. The second part needs a server that misbehaves.
"""

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from ai_enclave.engine.interface import Admitted, Done, Event, Failed, Failure, Lines, Request, Token, Writer
from ai_enclave.engine.peer import PeerEngine, PeerSettings
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine import standin
from tests.ai_enclave.engine.standin import (
    DONE,
    Behaviour,
    StandIn,
    chunk,
    cuts,
    event,
    hangs,
    never_ends,
    says,
    status,
    usage_chunk,
)

DIGEST = bytes(range(32))
FORM = Lines(labels=("A", "B"), most=2, longest=60)
USAGE = usage_chunk({"prompt_tokens": 7, "completion_tokens": 2})
BROKEN, BUSY, LATE, CANCELLED = (
    Failed(Failure.BROKEN),
    Failed(Failure.BUSY),
    Failed(Failure.LATE),
    Failed(Failure.CANCELLED),
)


def a_request(name: str = "1", *, seconds: float = 30.0, **changes: object) -> Request:
    members: dict[str, object] = {
        "id": name.encode(),
        "instructions": "Answer in a few words.",
        "text": "How are you?",
        "tenant": b"tenant",
        "deadline": time.monotonic() + seconds,
        "most_tokens": 64,
    }
    return Request(**{**members, **changes})  # type: ignore[arg-type]


def settings_for(url: str, **changes: object) -> PeerSettings:
    members: dict[str, object] = {"url": url, "model": "tiny", "weights_digest": DIGEST, "connect_seconds": 1.0}
    return PeerSettings(**{**members, **changes})  # type: ignore[arg-type]


async def run(engine: PeerEngine, request: Request) -> list[Event]:
    return [event async for event in engine.submit(request)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn().listening() as server:
        yield server


@pytest.fixture
async def engine(server: StandIn) -> AsyncIterator[PeerEngine]:
    engine = PeerEngine(settings_for(server.url))
    yield engine
    await engine.close()


SERVERS = ["stand-in", *(["vllm"] if "SUBROSA_VLLM_URL" in os.environ else [])]


@pytest.fixture(params=SERVERS)
async def writer(request: pytest.FixtureRequest) -> AsyncIterator[PeerEngine]:
    """Over each of the servers that there are, and warm."""
    if request.param == "vllm":
        url, model = os.environ["SUBROSA_VLLM_URL"], os.environ["SUBROSA_VLLM_MODEL"]
        engine = PeerEngine(PeerSettings(url=url, model=model, weights_digest=DIGEST, slots=4))
        await engine.warm()
        yield engine
        await engine.close()
        return
    async with StandIn(pause=0.002).listening() as server:
        engine = PeerEngine(settings_for(server.url, slots=4))
        await engine.warm()
        yield engine
        await engine.close()


# The contract.


async def test_it_is_a_writer(writer: PeerEngine) -> None:
    engine: Writer = writer
    assert engine.name.startswith("peer/")
    assert engine.weights_digest == DIGEST


async def test_an_answer_is_admitted_written_and_done(writer: PeerEngine) -> None:
    first, *tokens, last = await run(writer, a_request())
    assert first == Admitted()
    assert tokens
    assert all(isinstance(token, Token) and token.text for token in tokens)
    assert isinstance(last, Done)
    assert last.prompt_tokens > 0 < last.tokens <= 64


async def test_the_same_question_has_the_same_answer(writer: PeerEngine) -> None:
    one, other = await run(writer, a_request("1")), await run(writer, a_request("2", tenant=b"other"))
    assert text_of(one) == text_of(other)


async def test_an_answer_in_a_form_keeps_to_it(writer: PeerEngine) -> None:
    events = await run(writer, a_request(form=FORM, text="A: We meet at nine.\nB: I bring the map.", most_tokens=256))
    assert isinstance(events[-1], Done)
    assert not events[-1].cut
    lines = json.loads(text_of(events))
    assert len(lines) <= FORM.most
    assert all(set(line) == {"text", "cites"} and set(line["cites"]) <= set(FORM.labels) for line in lines)


async def test_an_answer_is_as_long_as_it_may_be(writer: PeerEngine) -> None:
    events = await run(writer, a_request(most_tokens=3, text="Count from one to a hundred."))
    assert isinstance(events[-1], Done)
    assert events[-1].cut
    assert events[-1].tokens == 3


async def test_many_are_answered_at_once(writer: PeerEngine) -> None:
    requests = [a_request(f"{number}", tenant=bytes([number % 3])) for number in range(12)]
    answers = await asyncio.gather(*(run(writer, request) for request in requests))
    assert all(isinstance(events[-1], Done) for events in answers)
    stats = writer.stats()
    assert (stats.finished, stats.failed, stats.running, stats.waiting) == (12, 0, 0, 0)


async def test_a_cancelled_request_ends_with_failed(writer: PeerEngine) -> None:
    events: list[Event] = []
    async for happened in writer.submit(a_request("mine", most_tokens=2000 if len(SERVERS) > 1 else 64)):
        events.append(happened)
        if isinstance(happened, Admitted):
            writer.cancel(b"another")
            writer.cancel(b"mine")
    assert events[-1] == CANCELLED
    writer.cancel(b"mine")  # nothing is left to cancel


async def test_closing_the_generator_ends_the_work(writer: PeerEngine) -> None:
    async with aclosing(writer.submit(a_request())) as events:
        assert await anext(events) == Admitted()
    await until(lambda: writer.stats().running == 0)
    assert writer.stats().failed == 1


async def test_after_its_deadline_nothing_is_asked(writer: PeerEngine) -> None:
    assert await run(writer, a_request(seconds=-1)) == [LATE]


async def test_a_prompt_that_does_not_fit_is_too_long(writer: PeerEngine) -> None:
    assert await run(writer, a_request(text="word " * 200_000)) == [Failed(Failure.TOO_LONG)]


async def test_nothing_kept_of_one_tenant_is_used_for_another(writer: PeerEngine) -> None:
    text = "A long text that the cache could hold. " * 40
    await run(writer, a_request("1", text=text, tenant=b"one"))
    before = writer.stats().shared_prompt_tokens
    await run(writer, a_request("2", text=text, tenant=b"other"))
    assert writer.stats().shared_prompt_tokens == before
    await run(writer, a_request("3", text=text, tenant=b"one"))
    assert writer.stats().shared_prompt_tokens > before


async def test_draining_finishes_what_was_taken_and_takes_no_more(writer: PeerEngine) -> None:
    events = writer.submit(a_request("1"))
    assert await anext(events) == Admitted()
    await writer.drain()
    assert await run(writer, a_request("2")) == [Failed(Failure.DRAINING)]
    assert isinstance([happened async for happened in events][-1], Done)


async def test_closing_ends_what_runs(writer: PeerEngine) -> None:
    events = writer.submit(a_request("1"))
    assert await anext(events) == Admitted()
    await writer.close()
    assert [happened async for happened in events][-1] == CANCELLED
    assert await run(writer, a_request("2")) == [Failed(Failure.DRAINING)]
    await writer.close()


# What only a stand-in can be told to do.


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    async with StandIn().listening(tmp_path / "s") as server:
        engine = PeerEngine(settings_for(server.url))
        await engine.warm()
        assert text_of(await run(engine, a_request())) == server.text
        await engine.close()


def test_a_server_elsewhere_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(EngineError, match="inside this machine"):
        PeerEngine(settings_for("http://192.0.2.1:8000"))
    with pytest.raises(EngineError, match="32 bytes"):
        PeerEngine(settings_for("http://127.0.0.1:8000", weights_digest=b"short"))


async def test_the_environment_and_the_server_change_nothing(
    server: StandIn, engine: PeerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.behaviours.append(status(307, **{"Location": server.url + "/elsewhere", "Set-Cookie": "a=b"}))
    assert await run(engine, a_request("1")) == [BROKEN]
    assert text_of(await run(engine, a_request("2"))) == server.text
    assert server.paths == []  # it did not follow
    assert all("Cookie" not in headers for headers in server.headers)


async def test_salts_are_of_tenants_and_of_this_process(server: StandIn, engine: PeerEngine) -> None:
    for number, tenant in enumerate([b"one", b"one", b"other", b""]):
        await run(engine, a_request(f"{number}", tenant=tenant))
    again = PeerEngine(settings_for(server.url))
    await run(again, a_request(tenant=b"one"))
    await again.close()
    salts = [body["cache_salt"] for body in server.seen]
    assert salts[0] == salts[1]
    assert len(set(salts)) == 4
    assert all(re.fullmatch(r"[\w-]{43}", salt) for salt in salts)


async def test_the_key_of_the_salts_is_overwritten(engine: PeerEngine) -> None:
    assert any(engine._salt_key)
    await engine.close()
    assert not any(engine._salt_key)


async def test_an_api_key_is_sent_and_never_shown(server: StandIn) -> None:
    settings = settings_for(server.url, api_key="the-key", stop=("END",))
    engine = PeerEngine(settings)
    await run(engine, a_request())
    await engine.close()
    assert server.headers[0]["Authorization"] == "Bearer the-key"
    assert server.seen[0]["stop"] == ["END"]
    assert "the-key" not in repr(settings)


async def test_usage_is_counted(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(says(chunk("One", "stop"), USAGE, DONE))
    assert await run(engine, a_request()) == [Admitted(), Token("One"), Done(7, 2)]
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.tokens, stats.finished, stats.failed) == (7, 2, 1, 0)


@pytest.mark.parametrize(
    ("behaviour", "end"),
    [
        (status(500), BROKEN),
        (status(404), BROKEN),
        (status(204), BROKEN),
        (standin.too_long, Failed(Failure.TOO_LONG)),
        (status(400), BROKEN),
        (says(b"{}", content_type="application/json"), BROKEN),
        (says(b"<html>", content_type="text/html"), BROKEN),
        (says(b"\x00\xff garbage"), BROKEN),
        (says(b"data: " + b"a" * 100_000 + b"\n\n"), BROKEN),
        (says(), BROKEN),
        (says(chunk("One")), BROKEN),
        (says(chunk("One", "stop"), DONE), BROKEN),
        (says(chunk("One"), event('{"error":{"message":"SECRET"}}'), DONE), BROKEN),
        (cuts(), BROKEN),
        (cuts(chunk("One")), BROKEN),
        (cuts(chunk("One", "stop"), USAGE), BROKEN),
        (never_ends(chunk("a" * 1000)), BROKEN),
        (never_ends(b": keep alive\n\n" * 1000), BROKEN),
        (never_ends(b"data: endless"), BROKEN),
    ],
)
async def test_a_server_that_misbehaves_is_broken_and_asked_once(
    server: StandIn, engine: PeerEngine, behaviour: Behaviour, end: Failed
) -> None:
    server.behaviours.append(behaviour)
    events = await run(engine, a_request())
    assert events[-1] == end
    assert not any(isinstance(happened, Done | Failed) for happened in events[:-1])
    assert len(server.seen) == 1
    assert engine.stats().failed == 1
    assert isinstance((await run(engine, a_request()))[-1], Done)  # and the next one is none the worse


async def test_what_is_no_stream_of_events_is_not_read_as_one(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(says(chunk("One", "stop"), USAGE, DONE, content_type="text/plain"))
    assert await run(engine, a_request()) == [BROKEN]


async def test_between_two_pieces_there_is_less_patience_than_before_the_first(server: StandIn) -> None:
    engine = PeerEngine(settings_for(server.url, first_byte_seconds=10, between_seconds=0.1))
    server.behaviours.append(hangs(chunk("One")))
    start = time.monotonic()
    assert await run(engine, a_request()) == [Admitted(), Token("One"), BROKEN]
    assert time.monotonic() - start < 2
    await engine.close()


async def test_compressed_answers_are_not_unpacked(server: StandIn, engine: PeerEngine) -> None:
    async def compressed(_server: StandIn, request: web.Request, _body: object) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"})
        await response.prepare(request)
        await response.write(chunk("One", "stop") + USAGE + DONE)
        return response

    server.behaviours.append(compressed)
    assert await run(engine, a_request()) == [BROKEN]
    assert server.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("busy", [429, 503])
async def test_a_busy_server_is_asked_again(server: StandIn, engine: PeerEngine, busy: int) -> None:
    server.behaviours.extend([status(busy), status(busy)])
    events = await run(engine, a_request())
    assert events[0] == Admitted()
    assert isinstance(events[-1], Done)
    assert len(server.seen) == 3
    assert server.seen[0] == server.seen[2]


async def test_a_server_that_stays_busy_is_left_alone_in_time(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.extend([status(503)] * 20)
    start = time.monotonic()
    assert await run(engine, a_request(seconds=1.0)) == [BUSY]
    assert time.monotonic() - start < 1.0
    assert len(server.seen) in {3, 4}  # at 0, 0.1, 0.3 and 0.7 seconds, if nothing else keeps this machine busy


async def test_nothing_is_asked_again_after_the_first_token(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(cuts(chunk("One")))
    assert await run(engine, a_request()) == [Admitted(), Token("One"), BROKEN]
    assert len(server.seen) == 1


async def test_a_server_that_is_not_there_is_waited_for_a_moment(server: StandIn) -> None:
    async with StandIn().listening() as gone:
        url = gone.url
    engine = PeerEngine(settings_for(url))
    assert await run(engine, a_request(seconds=0.6)) == [BROKEN]
    await engine.close()


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n"]
)
async def test_what_does_not_speak_http_is_broken(said: bytes) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        engine = PeerEngine(settings_for(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        assert await run(engine, a_request()) == [BROKEN]
        await engine.close()


async def test_a_server_that_takes_no_connections_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as stack:
        for _ in range(2):  # which fill the queue that nobody empties
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        engine = PeerEngine(settings_for(f"http://127.0.0.1:{deaf.getsockname()[1]}", connect_seconds=0.05))
        start = time.monotonic()
        assert await run(engine, a_request(seconds=0.7)) == [BROKEN]
        assert time.monotonic() - start < 0.7
        await engine.close()


async def test_a_server_that_starts_meanwhile_answers(tmp_path: Path) -> None:
    engine = PeerEngine(settings_for(f"unix:{tmp_path}/s"))
    answer = asyncio.create_task(run(engine, a_request()))
    await asyncio.sleep(0.15)
    async with StandIn().listening(tmp_path / "s"):
        assert isinstance((await answer)[-1], Done)
        await engine.close()


@pytest.mark.parametrize("behaviour", [standin.says_nothing, hangs(), hangs(b": hello\n\n"), hangs(chunk("One"))])
async def test_a_server_that_hangs_is_broken_in_time(server: StandIn, behaviour: Behaviour) -> None:
    engine = PeerEngine(settings_for(server.url, first_byte_seconds=0.1, between_seconds=0.1))
    server.behaviours.append(behaviour)
    start = time.monotonic()
    assert (await run(engine, a_request()))[-1] == BROKEN
    assert time.monotonic() - start < 2
    await until(lambda: server.hung_up == 1)
    await engine.close()


@pytest.mark.parametrize("behaviour", [standin.says_nothing, hangs(chunk("One")), never_ends(b": keep alive\n\n")])
async def test_at_its_deadline_a_request_is_late(server: StandIn, engine: PeerEngine, behaviour: Behaviour) -> None:
    server.behaviours.append(behaviour)
    start = time.monotonic()
    assert (await run(engine, a_request(seconds=0.2)))[-1] == LATE
    assert time.monotonic() - start < 2
    await until(lambda: server.hung_up == 1)


async def test_a_cancelled_request_closes_its_stream(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(hangs(chunk("One")))
    async for happened in engine.submit(a_request("mine")):
        if isinstance(happened, Token):
            engine.cancel(b"mine")
    assert happened == CANCELLED
    await until(lambda: server.hung_up == 1)


async def test_a_reader_who_goes_closes_the_stream(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(hangs(chunk("One")))
    async with aclosing(engine.submit(a_request())) as events:
        async for happened in events:
            if isinstance(happened, Token):
                break
    await until(lambda: server.hung_up == 1)


async def test_a_slow_reader_keeps_no_server_waiting(server: StandIn, engine: PeerEngine) -> None:
    async with aclosing(engine.submit(a_request())) as events:
        assert await anext(events) == Admitted()
        await until(lambda: server.running == 0 and engine.stats().running == 0)
        assert isinstance([happened async for happened in events][-1], Done)


async def test_an_answer_that_leaves_its_form_is_stopped_there(server: StandIn, engine: PeerEngine) -> None:
    server.lines = lambda _: [{"text": "right", "cites": ["A"]}, {"text": "wrong", "cites": ["C"]}]
    events = await run(engine, a_request(form=FORM))
    assert events[-1] == BROKEN
    assert "right" in text_of(events)
    assert '"C"' not in text_of(events)


async def test_no_more_than_its_slots_go_to_the_server_and_tenants_take_turns(server: StandIn) -> None:
    engine, opened = PeerEngine(settings_for(server.url, slots=1)), asyncio.Event()

    async def gate(server: StandIn, request: web.Request, body: standin.Chat) -> web.StreamResponse:
        await opened.wait()
        return await standin.well(server, request, body)

    server.behaviours.append(gate)
    first = asyncio.create_task(run(engine, a_request("0", text="a0", tenant=b"a")))
    await until(lambda: server.running == 1)
    names = ["a1", "a2", "b1", "b2", "c1"]
    rest = [asyncio.create_task(run(engine, a_request(name, text=name, tenant=name[:1].encode()))) for name in names]
    await until(lambda: engine.stats().waiting == len(names))
    opened.set()
    await asyncio.gather(first, *rest)
    assert [body["messages"][1]["content"] for body in server.seen] == ["a0", "a1", "b1", "c1", "a2", "b2"]
    assert server.most_running == 1
    await engine.close()


async def test_what_waits_ends_at_its_deadline_or_when_it_is_cancelled(server: StandIn) -> None:
    engine = PeerEngine(settings_for(server.url, slots=1))
    server.behaviours.append(hangs(chunk("One")))
    first = asyncio.create_task(run(engine, a_request("1")))
    await until(lambda: server.running == 1)
    second = asyncio.create_task(run(engine, a_request("2")))
    assert await run(engine, a_request("3", seconds=0.1)) == [LATE]
    engine.cancel(b"2")
    assert await second == [CANCELLED]
    engine.cancel(b"1")
    assert (await first)[-1] == CANCELLED
    assert engine.stats() == replace(engine.stats(), running=0, waiting=0, failed=3)
    await engine.close()


async def test_a_fault_of_ours_is_no_fault_of_the_reader(engine: PeerEngine) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    try:
        assert await run(engine, a_request(most_tokens=object())) == [BROKEN]  # cannot be written as JSON
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert isinstance(told[0]["exception"], TypeError)


# Warming.


async def test_it_waits_until_the_server_is_healthy(server: StandIn, engine: PeerEngine) -> None:
    server.healthy = False
    warming = asyncio.create_task(engine.warm())
    await asyncio.sleep(0.05)
    assert server.seen == []
    server.healthy = True
    await warming
    assert engine.stats() == type(engine.stats())()  # trials are nobody's


async def test_a_server_that_never_is_ready_is_given_up(server: StandIn) -> None:
    server.healthy = False
    engine = PeerEngine(settings_for(server.url, warm_seconds=0.1))
    with pytest.raises(EngineError, match="not ready within"):
        await engine.warm()
    await engine.close()


async def test_another_model_is_refused(server: StandIn, engine: PeerEngine) -> None:
    server.model = "tiny-but-another"
    with pytest.raises(EngineError, match="does not serve tiny"):
        await engine.warm()
    assert server.seen == []


async def test_a_server_that_shares_between_tenants_is_refused(server: StandIn, engine: PeerEngine) -> None:
    server.heeds_salts = False
    with pytest.raises(EngineError, match="does not heed cache_salt"):
        await engine.warm()


async def test_a_server_that_ignores_the_form_is_refused(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(says(chunk("Sure! Here it is: SECRET", "stop"), USAGE, DONE))
    with pytest.raises(EngineError, match="response_format") as caught:
        await engine.warm()
    assert "SECRET" not in str(caught.value)


async def test_a_server_that_is_no_model_server_is_refused(server: StandIn, engine: PeerEngine) -> None:
    server.model = "x" * 300_000  # more than is read of it
    with pytest.raises(EngineError, match="does not say what it serves"):
        await engine.warm()


async def test_a_server_that_is_busy_at_first_is_warmed_all_the_same(server: StandIn, engine: PeerEngine) -> None:
    server.behaviours.append(status(503))
    await engine.warm()
    assert len(server.seen) == 4
