"""Labels of messages for one request: short, drawn by lot, and without meaning outside it.

A message cannot name another one, or itself, as evidence: its author would have to guess a label that is drawn after
they wrote.
"""

from collections.abc import Callable

from ai_enclave.features.limits import LABEL_LETTERS, MAX_LABELS

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # base32, RFC 4648, section 6
_BITS = 5 * LABEL_LETTERS


def label_messages(count: int, random_bytes: Callable[[int], bytes]) -> tuple[str, ...]:
    """``count`` different labels. Every label is as likely as every other, if every byte is.

    Args:
        count: at most ``MAX_LABELS``.
        random_bytes: gives so many bytes, such as ``secrets.token_bytes``.

    Raises:
        ValueError: too many labels, or ``random_bytes`` repeats itself.
    """
    if not 0 <= count <= MAX_LABELS:
        raise ValueError("so many messages are not labelled")
    labels: dict[str, None] = {}
    for _ in range(2 * count + 100):  # a label may be drawn twice: with 100,000 of 1,048,576 once in ten draws
        if len(labels) == count:
            break
        labels[_label(random_bytes(3))] = None
    if len(labels) < count:
        raise ValueError("the source of random bytes repeats itself")
    return tuple(labels)


def _label(drawn: bytes) -> str:
    number = int.from_bytes(drawn, "big") % (1 << _BITS)
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(LABEL_LETTERS))
