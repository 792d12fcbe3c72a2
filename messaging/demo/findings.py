"""What the server holds at the end: rows, sizes, and a search for what people wrote, which has to find nothing.

Searched are every file below the server's folder and every value of every table, for each text as UTF-8, as UTF-16 and
as base64 (at each of its three alignments). The search also looks for something that must be there, so that a search
that finds nothing cannot be a search that does not work.
"""

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

MIN_TEXT = 8  # bytes: a shorter text turns up in random bytes by chance
MIN_BASE64 = 12  # characters, for the same reason: they carry 6 bits each


@dataclass(frozen=True, slots=True)
class Findings:
    """What the server holds.

    ``places`` counts files and tables in which a text was found; ``control_found`` says that the search works.
    """

    rows: Mapping[str, int]
    files: Mapping[str, int]  # name to bytes
    searched: int
    too_short: int
    places: tuple[str, ...] = field(repr=False)
    control_found: bool

    @property
    def bytes_held(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def search_server(folder: Path, texts: Iterable[str], control: str) -> Findings:
    """Look for every one of ``texts`` in everything below ``folder``; ``control`` is known to be there."""
    wanted = sorted(set(texts))
    searchable = [text for text in wanted if len(text.encode()) >= MIN_TEXT]
    needles = [needle for text in searchable for needle in _spellings(text)]
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    databases = [path for path in files.values() if path.suffix == ".db"]
    places: list[str] = []
    control_found = False
    for name, data in _everything(files, databases):
        control_found = control_found or control.encode() in data
        if any(needle in data for needle in needles):
            places.append(name)
    return Findings(
        rows={table: count for path in databases for table, count in _row_counts(path).items()},
        files={name: path.stat().st_size for name, path in files.items()},
        searched=len(searchable),
        too_short=len(wanted) - len(searchable),
        places=tuple(dict.fromkeys(places)),
        control_found=control_found,
    )


def _spellings(text: str) -> Iterator[bytes]:
    data = text.encode()
    yield data
    yield text.encode("utf-16-le")
    for shift in range(3):
        # Whole groups only: what stands before and after the text changes the characters at its ends.
        needle = base64.b64encode(bytes(shift) + data)[4 if shift else 0 : -4]
        if len(needle) >= MIN_BASE64:
            yield needle


def _everything(files: Mapping[str, Path], databases: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for name, path in files.items():
        yield name, path.read_bytes()
    for path in databases:
        # A long value is spread over pages of the file; here it is whole.
        with closing(_read_only(path)) as db:
            for table in _tables(db):
                for row in db.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  # names come from the schema
                    yield f"table {table}", b"\x00".join(_as_bytes(value) for value in row)


def _row_counts(path: Path) -> dict[str, int]:
    with closing(_read_only(path)) as db:
        count = 'SELECT count(*) FROM "{}"'
        return {table: db.execute(count.format(table)).fetchone()[0] for table in _tables(db)}


def _tables(db: sqlite3.Connection) -> list[str]:
    listed = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    return [name for (name,) in listed]


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
