"""What this server cannot see: every table and column of the database that is connected, and what each tells its operator.

The columns are the database's own, not the models': one that nobody has a sentence for (``meanings``) is shown as unknown, and a test
fails. Examples are of this database, cut so short that they are no use to anybody: four bytes of a key, the day of a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Boolean, Connection, LargeBinary, Numeric, String, Uuid, column, func, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from messaging.relay.admin.desk import Action, Desk, Nothing, View
from messaging.relay.admin.meanings import CANNOT, ELSEWHERE, NO_COLUMN_FOR, TABLES, Kind, Meaning
from messaging.relay.admin.parameters import day_text
from messaging.relay.admin.permissions import Permission
from messaging.wire.json import Entity

SHOWN_BYTES: Final = 4  # of a key, a hash, a ciphertext or an id
LOOKED_AT: Final = 20  # rows of a table in which examples are looked for
_UNKNOWN: Final = Meaning(
    Kind.UNKNOWN, "This version has no sentence for this column.", "Look into its description.", example=False
)
_UUID_DIGITS: Final = 32
_BINARY: Final = frozenset({Kind.PUBLIC_KEY, Kind.HASH, Kind.CIPHERTEXT, Kind.IDENTIFIER})
_PADDED: Final = frozenset({Kind.CIPHERTEXT})  # of which an exact size could tell something
_LAST_TIME: Final = 253_402_300_799_000  # the year 9999


class ColumnSeen(Entity):
    """A column: what it holds, what the operator learns from it, and what nobody can. ``example`` is of this database, cut short."""

    name: str
    kind: str
    contains: str
    learns: str
    cannot: str
    example: str = ""


class TableSeen(Entity):
    """A table: what a row is and how long it stays."""

    name: str
    row: str
    stays: str
    columns: tuple[ColumnSeen, ...]


class KindCount(Entity):
    """How many columns are of a kind."""

    kind: str
    columns: int


class Elsewhere(Entity):
    """Somewhere other than the database where something is kept."""

    place: str
    contains: str
    learns: str
    cannot: str


class Schema(Entity):
    """All that this server keeps. ``no_column_for`` is what it has no place for."""

    database: str
    columns: int
    kinds: tuple[KindCount, ...]
    no_column_for: tuple[str, ...]
    tables: tuple[TableSeen, ...]
    elsewhere: tuple[Elsewhere, ...]


@dataclass(frozen=True, slots=True)
class RealColumn:
    """A column as the database describes it."""

    name: str
    type: TypeEngine[Any]


async def real_columns(db: AsyncConnection) -> dict[str, list[RealColumn]]:
    """All columns of all tables of the database that is connected, tables by name."""

    def look(connection: Connection) -> dict[str, list[RealColumn]]:
        inspector = inspect(connection)
        return {
            name: [RealColumn(found["name"], found["type"]) for found in inspector.get_columns(name)]
            for name in sorted(inspector.get_table_names())
        }

    return await db.run_sync(look)


def described(name: str, real: RealColumn, example: str) -> ColumnSeen:
    """A column in sentences."""
    meaning = _meaning(name, real.name)
    return ColumnSeen(
        name=real.name,
        kind=meaning.kind,
        contains=meaning.contains,
        learns=meaning.learns,
        cannot=meaning.cannot or CANNOT[meaning.kind],
        example=example,
    )


async def _show(_desk: Desk, db: AsyncConnection, _: Nothing) -> Schema:
    tables = []
    for name, columns in (await real_columns(db)).items():
        found, known = await _examples(db, name, columns), TABLES.get(name)
        tables.append(
            TableSeen(
                name=name,
                row=_UNKNOWN.contains if known is None else known.row,
                stays="" if known is None else known.stays,
                columns=tuple(described(name, each, found.get(each.name, "")) for each in columns),
            )
        )
    kinds = Counter(each.kind for seen in tables for each in seen.columns)
    return Schema(
        database={"postgresql": "PostgreSQL", "sqlite": "SQLite"}[db.dialect.name],
        columns=kinds.total(),
        kinds=tuple(KindCount(kind=kind, columns=kinds[kind]) for kind in Kind if kinds[kind]),
        no_column_for=NO_COLUMN_FOR,
        tables=tuple(tables),
        elsewhere=tuple(
            Elsewhere(place=each.place, contains=each.contains, learns=each.learns, cannot=each.cannot)
            for each in ELSEWHERE
        ),
    )


def _meaning(name: str, of_column: str) -> Meaning:
    known = TABLES.get(name)
    return _UNKNOWN if known is None else known.columns.get(of_column, _UNKNOWN)


# --- examples ---


async def _examples(db: AsyncConnection, name: str, columns: Sequence[RealColumn]) -> dict[str, str]:
    """For each column that may have one, the first value in a few rows, cut short where it is read: the rest stays in the database."""
    wanted = [each for each in columns if _meaning(name, each.name).example]
    cuts = {each.name: _cut(each) for each in wanted}
    if not cuts:
        return {}
    labels = {f"{of}_{part}": expression for of, parts in cuts.items() for part, expression in enumerate(parts)}
    query = select(*(expression.label(label) for label, expression in labels.items()))
    rows = (await db.execute(query.select_from(table(name)).limit(LOOKED_AT))).mappings().all()
    return {each.name: _first(rows, each, _meaning(name, each.name).kind) for each in wanted}


def _cut(real: RealColumn) -> tuple[ColumnElement[Any], ...]:
    """What is read of a column: for bytes the first few and their number, else the value."""
    here: ColumnElement[Any] = column(real.name, real.type)
    if isinstance(real.type, LargeBinary):
        return (func.substr(here, 1, SHOWN_BYTES, type_=LargeBinary()), func.length(here))
    return (here,)


def _first(rows: Sequence[Mapping[Any, Any]], real: RealColumn, kind: Kind) -> str:
    for row in rows:
        value = row[f"{real.name}_0"]
        if value is not None:
            return _told(value, row.get(f"{real.name}_1"), real, kind)
    return ""


def _told(value: Any, size: int | None, real: RealColumn, kind: Kind) -> str:  # noqa: ANN401 - of any column
    if isinstance(real.type, LargeBinary):
        return _of_bytes(bytes(value), size or 0, kind)
    if kind is Kind.TIME:
        return day_of(int(value))
    if kind is Kind.COUNTER:
        return bucket_of(int(value))
    if isinstance(real.type, Boolean):
        return "yes" if value else "no"
    if isinstance(real.type, Uuid) or (kind is Kind.IDENTIFIER and isinstance(real.type, String)):
        digits = str(value).replace("-", "")
        is_id = len(digits) == _UUID_DIGITS
        return f"{digits[: 2 * SHOWN_BYTES]}… (16 bytes)" if is_id else ""
    if kind is Kind.HASH and isinstance(real.type, String):
        return f"{str(value)[: 2 * SHOWN_BYTES]}… ({len(str(value))} characters)"
    if kind is Kind.SETTING and isinstance(real.type, String | Numeric):
        return str(value)
    return bucket_of(int(value)) if isinstance(value, int) and kind is Kind.SETTING else ""


def _of_bytes(start: bytes, size: int, kind: Kind) -> str:
    if kind not in _BINARY or size <= SHOWN_BYTES:
        return ""
    return f"{start.hex()}… ({bucket_of(size) if kind in _PADDED else size} bytes)"


def day_of(milliseconds: int) -> str:
    """The day of a time; empty for what is none."""
    return day_text(milliseconds) if 0 < milliseconds <= _LAST_TIME else ""


def bucket_of(number: int) -> str:
    """The power of two that a number is at most: how large it is, and not what it is."""
    return "0" if number <= 0 else f"at most {1 << (number - 1).bit_length()}"


VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "schema.show",
        "What this server cannot see: every column of its database, and what it tells an operator",
        Permission.SCHEMA_SEE,
        Nothing,
        Schema,
        _show,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()
