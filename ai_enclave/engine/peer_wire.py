"""What is said to a model server and what it answers: OpenAI's chat completions, as vLLM speaks them, streamed.

Bytes in, events out: no sockets, no clocks. Nothing that a server says is trusted to be of the protocol, of the form, or short.

Sources: vLLM, "OpenAI-Compatible Server" and "Structured Outputs" (``response_format``, ``cache_salt``, ``stream_options``); WHATWG
HTML, section 9.2 (server-sent events).
"""

import codecs
import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ai_enclave.engine.interface import Done, Failure, Lines, Request, Token
from ai_enclave.engine.peer_form import FormCheck, NotOfTheForm, schema
from ai_enclave.engine.weights import EngineError

MAX_BODY = 1024 * 1024  # bytes of a request; no prompt that is longer fits anyway
MAX_LINE = 64 * 1024  # characters of one line of a stream
MAX_EVENT = 128 * 1024  # characters of one event
MAX_STREAM = 16 * 1024 * 1024  # bytes of one stream: some 300 for each token
MAX_ANSWER = 128 * 1024  # characters
MAX_TOKENS = 2**31  # in a count that a server gives
MAX_SOCKET_PATH = 100  # characters; Linux takes 107

_DONE = "[DONE]"
# Where a space goes: into <|im_end|>, <｜User｜>, </s>, <start_of_turn>, [/INST]; and so into <b>, which does no harm.
_CONTROL = re.compile(r"<(?=[|｜]|/?[A-Za-z_]+[^<>\s]*>)|\[(?=/?(?:INST|IMG|THINK|PREFIX|SUFFIX|[A-Z]+_[A-Z_]+)\])")
_TOO_LONG_PARAMETERS = {
    "input_tokens",
    "input_text",
    "max_tokens",
    "max_completion_tokens",
}  # vLLM, renderers/params.py


class NoAnswer(Exception):
    """Why there is no answer. Carries nothing of what was asked or answered."""

    def __init__(self, why: Failure) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: ``base`` begins every URL, ``socket`` is set if it is a Unix socket."""

    base: str
    socket: Path | None = None


def parse_address(url: str) -> Address:
    """``http://127.0.0.1:8000``, ``http://[::1]:8000`` or ``unix:/run/model.sock``: nothing that could leave this machine.

    Raises:
        EngineError: it is something else.
    """
    if url.startswith("unix:/") and len(url) <= MAX_SOCKET_PATH and "\x00" not in url:
        return Address("http://127.0.0.1", Path(url.removeprefix("unix:")))
    try:
        parts = urlsplit(url)
        address, port = ipaddress.ip_address(parts.hostname or ""), parts.port
    except ValueError:
        raise _not_loopback() from None
    plain = parts.scheme == "http" and not (parts.username or parts.password or parts.query or parts.fragment)
    if not plain or port is None or not _is_loopback(address) or parts.path not in {"", "/"}:
        raise _not_loopback()
    return Address(f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}")


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Exactly 127.0.0.0/8 and ::1: no mapped, no scoped addresses, and no names, which others could resolve."""
    return str(address) == "::1" if address.version == 6 else address in ipaddress.ip_network("127.0.0.0/8")


def _not_loopback() -> EngineError:
    return EngineError(
        "the model server has to be inside this machine: give its address as http://127.0.0.1:PORT, http://[::1]:PORT or "
        "unix:/PATH, without a host name or a path"
    )


def encode_request(request: Request, *, model: str, salt: str, stop: Sequence[str] = ()) -> bytes:
    """The body of ``POST /v1/chat/completions``.

    Args:
        request: what to write.
        model: as the server names it.
        salt: the server keeps nothing of a prompt for those with another salt.
        stop: texts that end an answer, which they are no part of.

    Raises:
        NoAnswer: the prompt is too long.
    """
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": _sendable(request.instructions)},
            {"role": "user", "content": _sendable(request.text)},
        ],
        "temperature": 0,
        "max_tokens": request.most_tokens,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_salt": salt,
        "chat_template_kwargs": {"enable_thinking": False},  # a template without the word does not see it
    }
    if stop:
        body["stop"] = list(stop)
    if request.form is not None:
        json_schema = {"name": "lines", "strict": True, "schema": schema(request.form)}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    encoded = json.dumps(body, ensure_ascii=False).encode()
    if len(encoded) > MAX_BODY:
        raise NoAnswer(Failure.TOO_LONG)
    return encoded


def _sendable(text: str) -> str:
    """``text`` with a question mark for each half of a character, which UTF-8 has no bytes for.

    And with a space in whatever looks like a control token: a server puts texts into a template and reads the whole again, so that
    ``<|im_end|>`` in a message would end the message.
    """
    return _CONTROL.sub(r"\g<0> ", text.encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server says that an answer took. ``shared`` counts tokens of the prompt that were not computed again."""

    prompt_tokens: int
    tokens: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream: a piece of text, why it ends, what it took; any of them may be missing."""

    text: str = field(default="", repr=False)
    finish: str | None = None
    usage: Usage | None = None


class EventStream:
    """Splits a stream of server-sent events into the data of each, however the bytes were cut."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._size = 0
        self._rest = ""
        self._data: list[str] = []
        self._data_size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The data of all events that are complete with ``data``.

        Raises:
            NoAnswer: the stream, an event or a line is too long, or it is not UTF-8.
        """
        self._size += len(data)
        try:
            text = self._decode.decode(data)
        except UnicodeDecodeError:
            raise NoAnswer(Failure.BROKEN) from None
        _require(self._size <= MAX_STREAM)
        if not text:
            return
        text, self._after_cr = text.removeprefix("\n") if self._after_cr else text, text.endswith("\r")
        *lines, self._rest = (self._rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        _require(len(self._rest) <= MAX_LINE)
        for line in lines:
            yield from self._take(line)

    def _take(self, line: str) -> Iterator[str]:
        _require(len(line) <= MAX_LINE)
        if not line and self._data:
            yield "\n".join(self._data)
            self._data, self._data_size = [], 0
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
            self._data_size += len(value) + 1
            _require(self._data_size <= MAX_EVENT)


class AnswerStream:
    """From the bytes of one answer to its tokens and its end. ``usage`` is set with the end."""

    def __init__(self, form: Lines | None) -> None:
        self._events = EventStream()
        self._check = None if form is None else FormCheck(form)
        self._characters = 0
        self._finish: str | None = None
        self._ended = False
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Token | Done]:
        """What ``data`` adds. After ``Done`` nothing follows.

        Raises:
            NoAnswer: it is not of the protocol or of the form, or too long.
        """
        for event in self._events.feed(data):
            if self._ended:
                return
            if event == _DONE:
                self._ended = True
                yield self._end()
            else:
                yield from self._take(parse_chunk(event))

    def _take(self, chunk: Chunk) -> Iterator[Token]:
        self.usage = chunk.usage or self.usage
        _require(self._finish is None or not (chunk.text or chunk.finish))
        self._finish = chunk.finish or self._finish
        if not chunk.text:
            return
        self._characters += len(chunk.text)
        _require(self._characters <= MAX_ANSWER)
        if self._check is not None:
            try:
                self._check.feed(chunk.text)
            except NotOfTheForm:
                raise NoAnswer(Failure.BROKEN) from None
        yield Token(chunk.text)

    def _end(self) -> Done:
        if self.usage is None or self._finish not in {"stop", "length"}:
            raise NoAnswer(Failure.BROKEN)
        whole = self._finish == "stop" if self._check is None else self._check.whole
        _require(whole or self._finish == "length")
        return Done(self.usage.prompt_tokens, self.usage.tokens, cut=not whole)


def parse_chunk(data: str) -> Chunk:
    """The data of one event.

    Raises:
        NoAnswer: it tells of an error, or is not of the protocol.
    """
    members = _object(_parse(data))
    _require("error" not in members)
    choices = members.get("choices", [])
    if not isinstance(choices, list) or len(choices) > 1:
        raise NoAnswer(Failure.BROKEN)
    usage = None if members.get("usage") is None else _usage(_object(members["usage"]))
    if not choices:
        return Chunk(usage=usage)
    choice = _object(choices[0])
    _require(choice.get("index", 0) == 0)
    text, finish = _object(choice.get("delta")).get("content"), choice.get("finish_reason")
    return Chunk(_text(text), _text(finish) or None, usage)  # what a model thinks (``reasoning``) is no answer


def _usage(members: dict[str, object]) -> Usage:
    details = members.get("prompt_tokens_details")
    shared = 0 if details is None else _object(details).get("cached_tokens") or 0
    return Usage(_count(members.get("prompt_tokens")), _count(members.get("completion_tokens")), _count(shared))


def serves(answer: bytes, model: str) -> bool:
    """Whether the answer to ``GET /v1/models`` has ``model`` among the models.

    Raises:
        NoAnswer: it is not of the protocol.
    """
    models = _object(_parse(answer)).get("data")
    if not isinstance(models, list):
        raise NoAnswer(Failure.BROKEN)
    return any(_object(each).get("id") == model for each in models)


def refusal(status: int, answer: bytes) -> NoAnswer:
    """Why a server answered with a status that is no success; only a prompt that does not fit is told apart."""
    return NoAnswer(Failure.TOO_LONG if status == 413 or (status == 400 and _is_too_long(answer)) else Failure.BROKEN)


def _is_too_long(answer: bytes) -> bool:
    try:
        members = _object(_parse(answer))
        error = _object(members.get("error", members))  # older servers have no object around it
    except NoAnswer:
        return False
    return (
        error.get("code") == "context_length_exceeded"
        or error.get("param") in _TOO_LONG_PARAMETERS
        or "context length" in str(error.get("message", "")).lower()
    )


def _parse(data: str | bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # whose words are those of the server
        raise NoAnswer(Failure.BROKEN) from None


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise NoAnswer(Failure.BROKEN)
    return value


def _text(value: object) -> str:
    """A string that can be UTF-8; ``None`` is none of it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NoAnswer(Failure.BROKEN)
    _require(value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value))
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise NoAnswer(Failure.BROKEN)
    return value


def _require(right: bool) -> None:
    if not right:
        raise NoAnswer(Failure.BROKEN)
