"""The API reference is what a relay serves, and says what it answers."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from docs.reference import generated, served


@pytest.fixture(scope="session")
async def document() -> dict[str, Any]:
    """What a relay serves."""
    return await served()


async def test_the_committed_files_are_what_a_relay_serves(document: dict[str, Any]) -> None:
    for path, content in generated(document).items():
        assert path.read_text() == content, f"docs/{path.name} is old: run python3 dev.py reference"


async def test_it_is_openapi(document: dict[str, Any]) -> None:
    validate(document)


async def test_every_endpoint_says_what_it_does_and_for_whom(document: dict[str, Any]) -> None:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            assert operation["summary"], (verb, path)
            assert {"429", "503"} <= operation["responses"].keys(), (verb, path)
