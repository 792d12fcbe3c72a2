"""Languages: English in the code and the templates, others from catalogues under ``locale/`` that are read at the start.

The language is that of the request that is being answered. Whoever answers says ``speak`` first; sentences, numbers and times follow.
"""

import gettext as catalogues
import io
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from babel.dates import format_datetime, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

SOURCE: Final = "en"
LANGUAGES: Final = {"en": "English", "fr": "Français"}
FOLDER: Final = Path(__file__).with_name("locale")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MAX_ACCEPTED = 20  # languages that are looked at in a header

_language: ContextVar[str] = ContextVar("language", default=SOURCE)


def speak(language: str) -> None:
    """Answer this request in ``language``, one of ``LANGUAGES``."""
    _language.set(language)


def language() -> str:
    """The language that is spoken now."""
    return _language.get()


def preferred(setting: str | None, accept: str) -> str:
    """What an operator has chosen, else the best of an ``Accept-Language`` header, else English."""
    if setting in LANGUAGES:
        return setting
    weighed = [_weighed(each) for each in accept.split(",")[:_MAX_ACCEPTED]]
    spoken = [(weight, name) for weight, name in weighed if weight > 0 and name in LANGUAGES]
    return max(spoken, key=lambda each: each[0])[1] if spoken else SOURCE


def _weighed(accepted: str) -> tuple[float, str]:
    name, _, parameters = accepted.strip().partition(";")
    try:
        weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
    except ValueError:
        weight = 0.0
    return weight, name.partition("-")[0].lower()


@cache
def catalogue(name: str) -> catalogues.NullTranslations:
    """The sentences of a language; those of English say what the code says."""
    path = FOLDER / name / "LC_MESSAGES" / "console.po"
    if name == SOURCE or not path.is_file():
        return catalogues.NullTranslations()
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=name))
    compiled.seek(0)
    return catalogues.GNUTranslations(compiled)


def gettext(message: str) -> str:
    """``message`` in the language that is spoken."""
    return catalogue(language()).gettext(message) if message else ""


def ngettext(singular: str, plural: str, n: int) -> str:
    """The same for ``n`` of something."""
    return catalogue(language()).ngettext(singular, plural, n)


def N_(message: str) -> str:  # noqa: N802 - what gettext calls it
    """Mark a sentence that is translated where it is shown."""
    return message


def number(value: float) -> str:
    """With the marks of the language: 12,345.6 or 12 345,6."""
    return format_decimal(value, format="#,##0.###", locale=language())


def size(value: float) -> str:
    """Bytes, in the largest unit that leaves at least one of it."""
    power = 0
    while abs(value) >= _STEP and power < len(_UNITS) - 1:
        value, power = value / _STEP, power + 1
    text = format_decimal(value, format="#,##0.#" if power else "#,##0", locale=language())
    return f"{text}\N{NO-BREAK SPACE}{_UNITS[power]}"


def ago(milliseconds: int, *, now: int) -> str:
    """A time since 1970, as somebody would say it at ``now``: "5 minutes ago", "in 2 days"."""
    return format_timedelta(
        timedelta(milliseconds=milliseconds - now), add_direction=True, threshold=1.2, locale=language()
    )


def duration(seconds: float) -> str:
    """A span: "3 hours"; below a second in milliseconds."""
    if 0 < abs(seconds) < 1:
        return f"{number(round(seconds * 1000, 1))}\N{NO-BREAK SPACE}ms"
    return format_timedelta(timedelta(seconds=seconds), threshold=1.2, locale=language())


def exact(milliseconds: int) -> str:
    """The same in full, in UTC."""
    return format_datetime(moment(milliseconds), "d MMM y, HH:mm:ss 'UTC'", locale=language())


def moment(milliseconds: int) -> datetime:
    """As a time of its own type; one that no calendar has becomes its first or last day."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC) if milliseconds > 0 else datetime.min.replace(tzinfo=UTC)
