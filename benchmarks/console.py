"""How fast the console answers with a full database: every page and every view of the API, as an owner sees them.

    python3 dev.py bench console [--accounts 1000000] [--envelopes 5000000] [--requests 30] [--json] [--out FILE]

A PostgreSQL of its own is filled by a script (``benchmarks/_seed.py``: a minute), and a console is started on it as a process of its own;
then each page is asked for over HTTP, one request after the other, in rounds of all of them. The first round, which finds no cache filled, is
not counted among the others and stands in a column of its own. What is marked is over the target of 300 ms at the 95th percentile. The weight of the first page is what a browser with an empty cache gets over the wire for it.
"""

import argparse
import asyncio
import gzip
import json
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urljoin

import aiohttp

from benchmarks._progress import followed
from benchmarks._seed import DAY, NUMBER, USERNAME_HASH, Seeded, seed
from messaging.console.forms import SENSITIVE, required_names
from messaging.relay.admin.api_tokens import add_token
from messaging.relay.admin.desk import View
from messaging.relay.admin.limits import API_CALLS, MAX_TOKENS
from messaging.relay.admin.operators import add_operator
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.registry import VIEWS
from messaging.relay.admin.sign_ins import Method, begin_sign_in
from messaging.relay.database import normalise_url, open_database
from messaging.relay.migrate import migrate
from messaging.relay.server_secret import ServerSecret, read_secret
from messaging.wire.json import encode_base64url
from tests.servers import own_postgres

TARGET_MS: Final = 300
TARGET_BYTES: Final = 200_000
AUDIT_ENTRIES: Final = 100_000
READY_SECONDS: Final = 30
POSTGRES: Final = {
    "listen_addresses": "",
    "fsync": "off",  # while it is filled, what is lost is made again
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A page or a view, and how it is asked for. With a ``form``, by POST."""

    name: str
    path: str
    form: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_api(self) -> bool:
        return self.path.startswith("/api/")


@dataclass(slots=True)
class Measured:
    """What came of one of them: milliseconds of each request, and what the answer weighed."""

    asked: Asked
    first: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    bytes: int = 0
    failures: set[int] = field(default_factory=set)

    def percentile(self, share: float) -> float:
        """Of all requests, by the nearest rank."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.asked.name,
            "p50_ms": round(statistics.median(self.milliseconds), 1),
            "p95_ms": round(self.percentile(0.95), 1),
            "first_ms": round(self.first, 1),
            "bytes": self.bytes,
            "requests": len(self.milliseconds),
            **({"failed": sorted(self.failures)} if self.failures else {}),
        }


def everything(seeded: Seeded, views: Iterable[View[Any, Any]]) -> tuple[list[Asked], list[str]]:
    """What is asked for, and the views that nothing can be asked of, because this script has nothing to name."""
    asked = [Asked(path, path) for path in ("/", "/approvals", "/account")]
    asked += [Asked(f"/api/v1/{name}", f"/api/v1/{name}") for name in ("me", "proposals", "openapi.json")]
    unnamed = []
    for view in views:
        found = variants(view, seeded)
        if not found:
            unnamed.append(view.name)
        for said, parameters in found:
            for base in ("/views/", "/api/v1/views/"):
                asked.append(_asked(f"{base}{view.name}{said}", f"{base}{view.name}", parameters))
    return asked, unnamed


def variants(view: View[Any, Any], seeded: Seeded) -> list[tuple[str, dict[str, Any]]]:
    """The ways in which a view is asked for: a few words on each, and its parameters."""
    aci, deep = str(seeded.aci), seeded.accounts // 3
    named: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "accounts.search": [
            (" (newest)", {}),
            (" (far back)", {"before": deep, "limit": 200}),
            (" (by id)", {"aci": aci}),
            (" (by number)", {"number": NUMBER}),
            (" (by username)", {"usernameHash": encode_base64url(USERNAME_HASH)}),
            (" (bots)", {"bots": "true"}),
            (" (suspended)", {"suspended": "true"}),
            (" (suspended bots: none)", {"suspended": "true", "bots": "true"}),
        ],
        "audit.list": [
            (" (newest)", {}),
            (" (far back)", {"before": seeded.audit_entries // 3, "limit": 200}),
            (" (operator)", {"operator": "operator 3"}),
            (" (operator: nobody)", {"operator": "nobody"}),
            (" (action)", {"action": "accounts.report"}),
            (" (one account)", {"subject": f"account {aci}"}),
        ],
        "assistants.show": [("", {"aci": str(seeded.assistant)})],
        "audit.export": [("", {"after": seeded.audit_entries // 2})],
    }
    if view.name in named:
        return named[view.name]
    assistant = f"assistant-{seeded.accounts}"
    samples = {
        "aci": aci,
        "assistant": assistant,
        "operatorId": 7,
        "id": 1,
        "key": "nothing",
        "name": "nobody",
        "version": 1,
    }
    needed = required_names(view.takes)
    return [("", {name: samples[name] for name in sorted(needed)})] if needed <= samples.keys() else []


def _asked(name: str, path: str, parameters: Mapping[str, Any]) -> Asked:
    if SENSITIVE & parameters.keys():
        return Asked(name, path, form=parameters)
    return Asked(name, path + (f"?{urlencode(parameters)}" if parameters else ""))


# --- asking ---


@dataclass(frozen=True, slots=True)
class Browser:
    """An owner: signed in for pages, with tokens for the API, each of which may be used so often in a minute."""

    http: aiohttp.ClientSession
    url: str
    cookie: str = field(repr=False)
    tokens: Sequence[str] = field(repr=False)

    async def ask(self, asked: Asked, number: int) -> tuple[int, int, float]:
        """The status of an answer, its bytes over the wire, and milliseconds until the last of them."""
        if asked.is_api:
            headers = {"Authorization": f"Bearer {self.tokens[number % len(self.tokens)]}"}
        else:
            headers = {"Cookie": f"subrosa={self.cookie}", "Origin": self.url, "Accept-Encoding": "gzip"}
        began = time.perf_counter()
        async with self._request(asked, headers) as response:
            body = await response.read()
        return response.status, len(body), 1000 * (time.perf_counter() - began)

    def _request(self, asked: Asked, headers: dict[str, str]) -> Any:  # noqa: ANN401 - aiohttp's own context
        url = self.url + asked.path
        if asked.form is None:
            return self.http.get(url, headers=headers, allow_redirects=False)
        if asked.is_api:
            return self.http.post(url, headers=headers, json=dict(asked.form), allow_redirects=False)
        return self.http.post(url, headers=headers, data=dict(asked.form), allow_redirects=False)

    async def weight(self) -> dict[str, int]:
        """What the first page and each thing that it loads weigh over the wire, by path."""
        headers = {"Cookie": f"subrosa={self.cookie}", "Accept-Encoding": "gzip"}
        async with self.http.get(self.url, headers=headers) as response:
            packed = await response.read()
            page = gzip.decompress(packed) if response.headers.get("Content-Encoding") == "gzip" else packed
        found = {"/": len(packed)}
        for path in dict.fromkeys(_LOADED.findall(page.decode())):
            async with self.http.get(urljoin(self.url, path), headers=headers) as response:
                found[path] = len(await response.read())
        return found


_LOADED: Final = re.compile(r"""<(?:link|script|img)\b[^>]*?\b(?:href|src)="(/[^"]+)""")


async def measured(browser: Browser, everything: Sequence[Asked], requests: int) -> list[Measured]:
    """Ask for everything so often, in rounds; the first one stands alone."""
    found = [Measured(asked) for asked in everything]
    for number in followed(range(-1, requests), "rounds"):
        for each in found:
            status, size, milliseconds = await browser.ask(each.asked, number)
            if number < 0:
                each.first, each.bytes = milliseconds, size
            else:
                each.milliseconds.append(milliseconds)
            if status != HTTPStatus.OK:
                each.failures.add(status)
    return found


# --- a server to ask ---


async def owner(url: str, secret: ServerSecret, calls: int) -> tuple[str, list[str]]:
    """Make an owner in the database who is signed in; their cookie, and tokens enough for so many calls within a minute."""
    database = open_database(normalise_url(url))
    now = int(time.time() * 1000)
    try:
        async with database.begin() as db:
            record = await add_operator(db, handle=secrets.token_bytes(32), name="the owner", role=Role.OWNER, now=now)
            cookie = await begin_sign_in(db, secret, record.id, Method.PASSKEY, "Firefox on Linux", now=now)
            tokens = [
                (await add_token(db, secret, record.id, f"token {n}", record.permissions, DAY, now=now))[1]
                for n in range(min(MAX_TOKENS, -(-calls // API_CALLS)))
            ]
    finally:
        await database.close()
    return cookie, tokens


@asynccontextmanager
async def console_process(url: str, secret_file: Path) -> AsyncIterator[str]:
    """A console in a process of its own, while the block lasts; its address."""
    command = [sys.executable, "-m", "messaging.console", "serve", "--port", "0", "--json-ready"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--database-url", url, "--secret-file", str(secret_file), "--attachments-url", secret_file.parent.as_uri()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), READY_SECONDS)
        yield str(json.loads(line)["url"])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def measure(accounts: int, envelopes: int, requests: int) -> dict[str, Any]:
    """Fill a database, start everything, and measure."""
    with tempfile.TemporaryDirectory(prefix="subrosa-bench-") as folder, own_postgres(POSTGRES) as postgres:
        secret_file = Path(folder) / "secret"
        secret_file.write_bytes(secrets.token_bytes(32))
        secret = read_secret(secret_file, create=False)
        await migrate(normalise_url(postgres.url))
        now = int(time.time() * 1000)
        seeded = await seed(
            postgres.url, secret, accounts=accounts, envelopes=envelopes, audit_entries=AUDIT_ENTRIES, now=now
        )
        asked, unnamed = everything(seeded, VIEWS.values())
        cookie, tokens = await owner(postgres.url, secret, len(asked) * (requests + 1))
        async with (
            console_process(postgres.url, secret_file) as url,
            aiohttp.ClientSession(auto_decompress=False) as http,
        ):
            browser = Browser(http, url, cookie, tokens)
            found = await measured(browser, asked, requests)
            weight = await browser.weight()
    return {
        "accounts": seeded.accounts,
        "devices": seeded.devices,
        "envelopes": seeded.envelopes,
        "audit_entries": seeded.audit_entries,
        "seeded_seconds": round(seeded.seconds, 1),
        "pages": [each.as_json() for each in found],
        "not_asked": unnamed,
        "first_page_bytes": sum(weight.values()),
        "first_page": weight,
    }


# --- telling ---


def table(figures: Mapping[str, Any]) -> str:
    """For people: the slowest first. What is over the target is marked."""
    counts = ("accounts", "devices", "envelopes", "audit_entries")
    lines = [
        ", ".join(f"{figures[name]:,} {name.replace('_', ' ')}" for name in counts),
        "",
        f"{'':<58}{'p50 ms':>9}{'p95 ms':>9}{'first':>9}{'KB':>8}",
    ]
    for page in sorted(figures["pages"], key=lambda each: -each["p95_ms"]):
        mark = f"  over {TARGET_MS} ms" if page["p95_ms"] > TARGET_MS else ""
        failed = f"  FAILED {page['failed']}" if "failed" in page else ""
        lines.append(
            f"{page['name']:<58}{page['p50_ms']:>9.1f}{page['p95_ms']:>9.1f}{page['first_ms']:>9.1f}{page['bytes'] / 1000:>8.1f}{mark}{failed}"
        )
    over = "  over" if figures["first_page_bytes"] > TARGET_BYTES else ""
    lines += ["", f"first page with all that it loads: {figures['first_page_bytes'] / 1000:.1f} KB{over}"]
    lines += [f"  {path:<56}{size / 1000:>26.1f}" for path, size in figures["first_page"].items()]
    if figures["not_asked"]:
        lines += ["", "not asked: " + ", ".join(figures["not_asked"])]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if something is over its target or has failed."""
    parser = argparse.ArgumentParser(prog="dev.py bench console", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--accounts", type=int, default=1_000_000, help="(default: 1,000,000)")
    parser.add_argument("--envelopes", type=int, default=5_000_000, help="about so many (default: 5,000,000)")
    parser.add_argument("--requests", type=int, default=30, help="for each page (default: 30)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="write JSON to this file, too")
    options = parser.parse_args(argv)
    figures = asyncio.run(measure(options.accounts, options.envelopes, options.requests))
    document = json.dumps(figures, indent=2) + "\n"
    if options.out is not None:
        options.out.write_text(document)
    sys.stdout.write(document if options.json else table(figures) + "\n")
    return 1 if misses(figures) else 0


def misses(figures: Mapping[str, Any]) -> list[str]:
    """What is over its target or has failed."""
    pages = [page["name"] for page in figures["pages"] if page["p95_ms"] > TARGET_MS or "failed" in page]
    return pages + (["first page"] if figures["first_page_bytes"] > TARGET_BYTES else [])


if __name__ == "__main__":
    sys.exit(main())
