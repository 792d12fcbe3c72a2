"""Everything that the console says, in English: what a catalogue of another language has to hold.

``python -m messaging.console.messages`` prints it as a template for a catalogue (a ``.pot`` file).
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from inspect import getsource
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from messaging.console import app as _app  # noqa: F401 - all modules with errors of their own
from messaging.console import appraisal
from messaging.console.forms import fields_of
from messaging.console.words import SHORT, label_of, short_name, words_of
from messaging.relay.admin import account_facts, account_report, assistants, errors, meanings, overview
from messaging.relay.admin.desk import Action, View
from messaging.relay.admin.errors import AdminError
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.limits import Limit
from messaging.relay.metrics import COUNTERS

Message = str | tuple[str, str]  # a sentence, or one for one thing and one for several

HERE: Final = Path(__file__).parent
ADMIN: Final = Path(errors.__file__).parent
_KEYWORDS: Final = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}
_METHODS: Final = [("templates/**.html", "jinja2.ext:babel_extract"), ("**.py", "python")]
# Texts that a module holds for people to read, and that are in no call: all of its constants that are sentences.
_TEXTS: Final[tuple[ModuleType, ...]] = (meanings,)
_KEYS: Final[tuple[ModuleType, ...]] = (account_report,)  # whose dictionaries are shown as they are
_SHOWN: Final[tuple[Iterable[str], ...]] = (
    account_facts.NOT_SEARCHABLE,
    account_report.NOT_HELD,
    (what for what, _look in account_report.COVERED.values()),
    assistants._STATES.values(),
    (assistants.NO_LOG, assistants.NO_EVIDENCE.notice, assistants.NO_APPRAISER.notice, overview.NOTHING_IS_PUSHED),
    (appraisal.SIMULATED, appraisal.NO_POLICY, appraisal.ACCEPTED, appraisal.REFUSED, appraisal.UNREAD),
    (appraisal.OUR_NONCE.what, appraisal.OUR_NONCE.why),
)
# Members whose values are one of a few words, which are shown as such.
_WORDS: Final = [
    "ready",
    "draining",
    "broken",
    "ended",
    "gone",
    "drained",
    "stale",
    "active",
    "suspended",
    "deleted",
    "good",
    "revoked",
    "expired",
    "done",
    "refused",
    "read",
    "proposed",
    "approved",
    "rejected",
    "ok",
    "late",
    "down",
    "unknown",
    "accepted",
    "simulated",
    "unread",
    "passed",
    "failed",
    "person",
    "bot",
    "assistant",
    "member",
    "console",
    "api",
    "terminal",
    "weakened",
    "yes",
    "no",
    "database",
    "attachments",
    "folder",
    "bucket",
    "before",
    "never",
    "passkey",
    "oidc",
    "recovery",
    "pending",
]
_NAMES: Final = frozenset(limit.value for limit in Limit)  # of Signal-Server's limiters, the same in every language
_PHRASES: Final = ("dry run", "used up", "not appraised")


def all_messages() -> set[Message]:
    """All of it."""
    found: set[Message] = set(_in_code())
    found.update(_of_registry(), _sentences_of_errors(), _effects(), _labels_of_counters(), SHORT.values())
    found.update(words_of(word) for word in (*_WORDS, *_PHRASES, *meanings.Kind))
    found.update(text for texts in _SHOWN for text in texts)
    found.update(label_of(key) for module in _KEYS for key in keys_of(module))
    found.update(text for module in _TEXTS for text in texts_of(module))
    return {message for message in found if message}


def _in_code() -> Iterator[Message]:
    options = {"templates/**.html": {"newstyle_gettext": "true", "trimmed": "false"}}
    for _file, _line, message, _comments, _context in extract_from_dir(
        HERE, method_map=_METHODS, options_map=options, keywords=_KEYWORDS
    ):
        yield tuple(message) if isinstance(message, tuple | list) else message  # type: ignore[misc]  # pairs alone


def _of_registry() -> Iterator[str]:
    everything: list[View[Any, Any] | Action[Any]] = [*VIEWS.values(), *ACTIONS.values()]
    for what in everything:
        yield what.summary
        yield short_name(what.name)
        for field in fields_of(what.takes):
            yield from (field.label, field.hint)
            yield from (words_of(choice) for choice in field.choices if choice not in _NAMES)
    for view in VIEWS.values():
        yield from (label_of(name) for name in _members(view.gives.model_json_schema(by_alias=True)))


def _members(schema: dict[str, Any]) -> Iterator[str]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", ())


def _sentences_of_errors() -> Iterator[str]:
    kinds = set(_kinds(AdminError))
    yield from (kind.sentence for kind in kinds if hasattr(kind, "sentence"))
    names = {kind.__name__ for kind in kinds}
    for path in sorted([*ADMIN.glob("*.py"), *HERE.glob("*.py")]):
        yield from _constants(path.read_text(), names, sentence=True)


def _effects() -> Iterator[str]:
    for path in sorted(ADMIN.glob("*.py")):
        yield from _constants(path.read_text(), {"Effect"}, sentence=False)


def _labels_of_counters() -> Iterator[str]:
    yield from map(label_of, (*COUNTERS, *overview._TABLES))


def _constants(source: str, names: set[str], *, sentence: bool) -> Iterator[str]:
    """Texts that are given to calls of these names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            for given in node.args:
                for part in ast.walk(given) if isinstance(given, ast.IfExp) else (given,):
                    if (
                        isinstance(part, ast.Constant)
                        and isinstance(part.value, str)
                        and (" " in part.value or not sentence)
                    ):
                        yield part.value


def keys_of(module: ModuleType) -> Iterator[str]:
    """The keys of all dictionaries that a module writes down."""
    for node in ast.walk(ast.parse(getsource(module))):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def texts_of(module: ModuleType) -> Iterator[str]:
    """All texts of a module but its docstrings, names and keys."""
    tree = ast.parse(getsource(module))
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
            and id(node) not in documented
        ):
            yield node.value


def _kinds(kind: type[AdminError]) -> Iterator[type[AdminError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def template() -> bytes:
    """A catalogue without translations."""
    catalog = Catalog(project="subrosa", header_comment="# What the console says. One catalogue for a language.")
    for message in sorted(all_messages(), key=str):
        catalog.add(message)
    written = BytesIO()
    write_po(written, catalog, omit_header=False, sort_output=True)
    return written.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(template())
