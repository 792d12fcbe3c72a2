"""Writes docs/openapi.json and docs/compliance.md from what a relay serves: ``python3 dev.py reference``."""

import asyncio
import json
import tempfile
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

from messaging.relay.app import open_relay
from messaging.relay.settings import Settings

DOCS = Path(__file__).resolve().parent
# Paths of ours: everything else is Signal-Server's.
OURS = (
    "/v1/assistants",
    "/v1/health",
    "/v1/limits",
    "/v1/messages/parked",
    "/v1/openapi.json",
    "/v1/server-info",
)


Row = tuple[str, str, str]  # verb, path, summary


async def served() -> dict[str, Any]:
    """The OpenAPI document of a relay that runs just for this."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_relay(Settings(port=0, database_url=f"sqlite:///{folder}/relay.db")) as relay:
            return await asyncio.to_thread(_fetch, f"{relay.url}/v1/openapi.json")


def _fetch(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own relay, on this machine
        return dict(json.load(answer))


def compliance(document: dict[str, Any]) -> str:
    """The content of ``compliance.md``."""
    contract = tomllib.loads((DOCS / "contract.toml").read_text(encoding="utf-8"))
    rows = [
        (verb.upper(), path, operation["summary"])
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    theirs = [row for row in rows if not row[1].startswith(OURS)]
    ours = [row for row in rows if row[1].startswith(OURS)]
    missing = contract["missing"]
    lines = [
        "# Compliance with Signal's contract",
        "",
        "Made from the relay's routes and `docs/contract.toml` by `python3 dev.py reference`. Do not edit.",
        "",
        f"Compared with {contract['source']}.",
        f"{len(theirs)} endpoints of the contract, {len(ours)} of our own. Every one is reached over HTTP and through the socket.",
        "",
        "## Present",
        "",
        *_table(theirs),
        "",
        "## Present beside the REST endpoints",
        "",
        "| what | where |",
        "|---|---|",
        "| chat socket: frames both ways, envelopes, queue-empty, keepalive | `/v1/websocket/` |",
        "| provisioning socket | `/v1/websocket/provisioning/` |",
        "| upload of attachments (tus 1.0.0) | `/upload/attachments` |",
        "| download of attachments | `/attachments/{key}` |",
        "",
        "## Our own",
        "",
        *_table(ours),
        "| `PUT` | `/v1/messages/marker/{marker}` | Send a marker back when all that is queued now was sent; on the socket only |",
        "",
        "## Missing",
        "",
        "| endpoints | why |",
        "|---|---|",
        *(f"| {', '.join(f'`{each}`' for each in entry['endpoints'])} | {entry['why']} |" for entry in missing),
        "",
    ]
    return "\n".join(lines)


def generated(document: dict[str, Any]) -> dict[Path, str]:
    """What each generated file must hold."""
    return {
        DOCS / "openapi.json": json.dumps(document, indent=1) + "\n",
        DOCS / "compliance.md": compliance(document),
    }


def _table(rows: list[Row]) -> list[str]:
    return [
        "| verb | path | what |",
        "|---|---|---|",
        *(f"| `{verb}` | `{path}` | {what} |" for verb, path, what in rows),
    ]


if __name__ == "__main__":
    for file, content in generated(asyncio.run(served())).items():
        file.write_text(content, encoding="utf-8")
        print(f"wrote docs/{file.name}")  # noqa: T201 - a command
