"""Messages are data. What reads like an instruction to a machine, or asks for what must not be given, is marked.

The rules know common phrasings and no more; structure protects better (a share of the digest for each sender, citations,
no reply ever sent by itself). A marked message weighs less in a summary and is never answered by a suggestion.
"""

import re
import unicodedata

_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:previous|above|prior|earlier|all)\b"
    r"|\b(?:ai|assistant|chat ?bot|language model|summari[sz]er?)\b.{0,60}\b(?:must|should|please|now|instead|do not|don't)\b"
    r"|\b(?:system prompt|new instructions?|important instructions?)\b"
    r"|^\s*(?:system|assistant)\s*:",
    re.IGNORECASE | re.DOTALL,
)
_GIVE = r"(?:send|give|tell|share|transfer|pay|wire|text|forward|read out|confirm)"
_SENSITIVE = (
    r"(?:money|pass ?words?|pass ?codes?|pins?|codes?|otp|tan|credentials?|iban|account number|card number|gift cards?"
    r"|bitcoin|[€$£]\s?\d+|\d+\s?(?:€|euros?|dollars?|pounds?))"
)
_ASKS_FOR_SECRETS = re.compile(
    rf"\b{_GIVE}\b.{{0,60}}\b{_SENSITIVE}|\b{_SENSITIVE}\b.{{0,40}}\?|\bwhat(?:'s| is)\b.{{0,20}}\b{_SENSITIVE}",
    re.IGNORECASE | re.DOTALL,
)


def is_instruction(text: str) -> bool:
    """Whether it reads like an instruction to a machine."""
    return _INSTRUCTION.search(text) is not None


def asks_for_secrets(text: str) -> bool:
    """Whether it asks for money, codes or credentials."""
    return _ASKS_FOR_SECRETS.search(text) is not None


def visible(text: str) -> str:
    """``text`` without characters that hide or reorder others: controls, zero-width and bidirectional marks, surrogates."""
    return "".join(
        character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
