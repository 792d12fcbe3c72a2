"""What each token stands for, as bytes; and a text that grows token by token, given out in whole characters.

Two kinds of tokenizers are known, which the supported models have: byte-level BPE (a letter for each byte, as GPT-2 began it) and BPE
with byte fallback (a blank is written as ``▁``, and a byte as ``<0x0A>``).
"""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ai_enclave.engine.weights import EngineError

MAX_TOKEN_BYTES = 1024
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = "▁"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a tokenizer."""

    pieces: tuple[bytes, ...]  # by number; empty for what is no text
    control: Mapping[str, int]  # tokens that no text may become: all that the tokenizer has beside its merges
    strips_blank: bool  # the first blank of an answer is no part of it


def parse_vocabulary(tokenizer: Mapping[str, Any], size: int) -> Vocabulary:
    """Read a ``tokenizer.json``, for a model that has ``size`` tokens.

    Raises:
        EngineError: it is of another kind, or has tokens that the model does not have.
    """
    try:
        model, decoder, added = tokenizer["model"], str(tokenizer["decoder"]), tokenizer["added_tokens"] or []
        kind, numbers = model["type"], {str(token): int(number) for token, number in model["vocab"].items()}
        extra = {str(token["content"]): (int(token["id"]), bool(token["special"])) for token in added}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EngineError("tokenizer.json is not a tokenizer with a BPE vocabulary") from None
    spelled = _spelling(kind, decoder)
    pieces = [b""] * size
    for token, number in [*numbers.items(), *((token, number) for token, (number, _) in extra.items())]:
        if not 0 <= number < size:
            raise EngineError("tokenizer.json has tokens that the model does not have")
        if token not in extra:
            pieces[number] = spelled(token)
    for token, (number, special) in extra.items():
        pieces[number] = b"" if special else token.encode("utf-8", "replace")
    if max(map(len, pieces)) > MAX_TOKEN_BYTES:
        raise EngineError(f"tokenizer.json has a token of more than {MAX_TOKEN_BYTES} bytes")
    control = {token: number for token, (number, _) in extra.items()}
    return Vocabulary(tuple(pieces), control, strips_blank="'Strip'" in decoder)


class Text:
    """An answer's text as it grows. What is no UTF-8 becomes U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces = vocabulary.pieces
        self._strip = vocabulary.strips_blank
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The whole characters that this token completes."""
        text = self._decoder.decode(self._pieces[token])
        if text and self._strip:
            self._strip = False
            return text.removeprefix(" ")
        return text


def _spelling(kind: object, decoder: str) -> Callable[[str], bytes]:
    if kind != "BPE":
        raise EngineError("tokenizer.json: only BPE vocabularies are supported")
    if "'ByteLevel'" in decoder:
        letters = _letters()
        return lambda token: bytes(letters[letter] for letter in token if letter in letters)
    if "'ByteFallback'" in decoder:
        return _with_fallback
    raise EngineError("tokenizer.json: only byte-level vocabularies and those with byte fallback are supported")


def _with_fallback(token: str) -> bytes:
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace(_BLANK, " ").encode("utf-8", "replace")


def _letters() -> dict[str, int]:
    """The letter of each byte: visible Latin-1 stands for itself, the others follow from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}
