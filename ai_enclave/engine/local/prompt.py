"""From instructions and data to tokens. What is data stays data.

The templates are our own, one for each family of control tokens, and the tokenizer's own tokens say which one it is. A directory's chat template
is a program, and would have to be trusted not to mix up whose words are whose; ours are a list of parts, whose constant start is
known exactly. Control tokens are put in by number; every text is encoded by a tokenizer that does not know them, so that ``<|im_end|>`` in a
message becomes the tokens of these ten letters and signs.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from tokenizers import Tokenizer

from ai_enclave.engine.local.config import Config
from ai_enclave.engine.local.vocabulary import Vocabulary
from ai_enclave.engine.weights import EngineError

INSTRUCTIONS, DATA = "instructions", "data"
MAX_CHARACTERS_A_TOKEN = 16  # a text with more for each token that the model can see is not even encoded
MAX_KEPT_INSTRUCTIONS = 64  # encoded; the one that was not used longest goes first


class TooLong(Exception):
    """The prompt does not fit."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control token, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Said:
    """A text of the template, or ``INSTRUCTIONS`` or ``DATA``, whose place this is."""

    text: str


Part = Control | Said
_I, _D = Said(INSTRUCTIONS), Said(DATA)


@dataclass(frozen=True, slots=True)
class Template:
    """How a family of models is spoken to, and which control tokens end its answers."""

    parts: tuple[Part, ...]
    stops: tuple[str, ...]


def _chatml() -> tuple[Part, ...]:
    start, end = Control("<|im_start|>"), Control("<|im_end|>")
    system = (start, Said("system\n"), _I, end, Said("\n"))
    return (*system, start, Said("user\n"), _D, end, Said("\n"), start, Said("assistant\n"))


def _llama3() -> tuple[Part, ...]:
    start, stop, end = Control("<|start_header_id|>"), Control("<|end_header_id|>"), Control("<|eot_id|>")
    system = (Control("<|begin_of_text|>"), start, Said("system"), stop, Said("\n\n"), _I, end)
    return (*system, start, Said("user"), stop, Said("\n\n"), _D, end, start, Said("assistant"), stop, Said("\n\n"))


_NO_THOUGHT = (Control("<think>"), Said("\n\n"), Control("</think>"), Said("\n\n"))  # Qwen3 then answers at once
_INST, _END_INST = Control("[INST]"), Control("[/INST]")
_TEMPLATES = (
    Template((*_chatml(), *_NO_THOUGHT), ("<|im_end|>", "<|endoftext|>")),
    Template(_chatml(), ("<|im_end|>", "<|endoftext|>")),
    Template(_llama3(), ("<|eot_id|>", "<|end_of_text|>")),
    Template(
        (Control("<s>"), Control("[SYSTEM_PROMPT]"), _I, Control("[/SYSTEM_PROMPT]"), _INST, _D, _END_INST), ("</s>",)
    ),
    Template((Control("<s>"), _INST, _I, Said("\n\n"), _D, _END_INST), ("</s>",)),
)
_PLAIN = Template((_I, Said("\n\n"), _D, Said("\n\n")), ("</s>", "<|endoftext|>", "<|end_of_text|>"))


def template_for(vocabulary: Vocabulary) -> Template:
    """The first one whose control tokens there are. A model without any was not made to be spoken to, and is given plain text."""
    for template in _TEMPLATES:
        if {part.name for part in template.parts if isinstance(part, Control)} <= vocabulary.control.keys():
            return template
    return _PLAIN


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads. The first ``prefix`` tokens are constant, as long as the instructions are."""

    tokens: Sequence[int] = field(repr=False)
    prefix: int


class Prompts:
    """Builds prompts. May be used by several threads."""

    def __init__(self, tokenizer: Mapping[str, Any], vocabulary: Vocabulary, config: Config, most: int) -> None:
        """``tokenizer`` is the content of ``tokenizer.json``; ``most`` are the tokens that a prompt may have.

        Raises:
            EngineError: the tokenizer cannot be used.
        """
        self.template = template_for(vocabulary)
        stops = (vocabulary.control[name] for name in self.template.stops if name in vocabulary.control)
        self.stops = config.stops | frozenset(stops)
        self._most = most
        self._control = vocabulary.control
        self._forbidden = {number: name for name, number in vocabulary.control.items()}
        self._tokenizer = _without_control(tokenizer)
        self._first = self._first_token(config)
        self._kept: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._lock = Lock()

    def build(self, instructions: str, text: str) -> Prompt:
        """The prompt for these instructions and this data.

        Raises:
            TooLong: it has more tokens than a prompt may have.
        """
        if len(instructions) + len(text) > self._most * MAX_CHARACTERS_A_TOKEN:
            raise TooLong
        place = self.template.parts.index(_D)
        prefix = self._constant(instructions)
        rest = [token for part in self.template.parts[place:] for token in self._part(part, text)]
        if len(prefix) + len(rest) > self._most:
            raise TooLong
        return Prompt((*prefix, *rest), len(prefix))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, none of which is a control token."""
        # A lone surrogate is not Unicode text, and the tokenizer refuses it.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        tokens = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return [allowed for token in tokens for allowed in self._allowed(token)]

    def _allowed(self, token: int) -> list[int]:
        """The token itself; or, if the merges of a tokenizer lead to a control token, one token for each of its characters."""
        if token not in self._forbidden:
            return [token]
        spelled = (self._tokenizer.encode(sign, add_special_tokens=False).ids for sign in self._forbidden[token])
        return [each for tokens in spelled for each in tokens if each not in self._forbidden]

    def _constant(self, instructions: str) -> tuple[int, ...]:
        """The tokens before the data; encoded once."""
        with self._lock:
            if instructions in self._kept:
                self._kept.move_to_end(instructions)
                return self._kept[instructions]
        parts = self.template.parts[: self.template.parts.index(_D)]
        tokens = (*self._first, *(token for part in parts for token in self._part(part, instructions)))
        with self._lock:
            self._kept[instructions] = tokens
            if len(self._kept) > MAX_KEPT_INSTRUCTIONS:
                self._kept.popitem(last=False)
        return tokens

    def _part(self, part: Part, text: str) -> list[int]:
        if isinstance(part, Control):
            return [self._control[part.name]]
        return self.encode(text if part in (_I, _D) else part.text)

    def _first_token(self, config: Config) -> tuple[int, ...]:
        """Models of llama's line were trained with a token at the start of every text; a template may name it itself."""
        named = isinstance(self.template.parts[0], Control) or config.family.startswith("qwen")
        if named or config.first not in self._forbidden or config.first is None:
            return ()
        return (config.first,)


def _without_control(tokenizer: Mapping[str, Any]) -> Tokenizer:
    """The same tokenizer, but for tokens that are no text, and for what it would add, cut or fill up."""
    without: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    try:
        # It raises nothing more exact than Exception.
        return Tokenizer.from_str(json.dumps({**tokenizer, **without}))
    except Exception:  # noqa: BLE001
        raise EngineError("tokenizer.json is not a tokenizer") from None
