"""schemathesis, which makes requests from an OpenAPI document: valid ones, and ones that break a rule."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

# Of ast.parse near the limit of recursion, which the tool then takes for an error of its own (python/cpython#106905).
_INTERPRETERS_FAULT = "AST constructor recursion depth mismatch"


async def assert_as_documented(
    document: str, authorization: str, folder: Path, *, phases: str, examples: int, left_out: Sequence[str]
) -> None:
    """See that all that is sent is answered as the ``document``, a URL, says. ``left_out`` are options of the tool."""
    run = partial(_run, document, authorization, folder, phases=phases, examples=examples, left_out=left_out)
    result = await asyncio.to_thread(run)
    if _INTERPRETERS_FAULT in result.stdout:
        result = await asyncio.to_thread(run)
    assert result.returncode == 0, result.stdout[-60000:] + result.stderr[-2000:]


def _run(
    document: str, authorization: str, folder: Path, *, phases: str, examples: int, left_out: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        document,
        "--header",
        f"Authorization: {authorization}",
        "--phases",
        phases,
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--max-examples",
        str(examples),
        *left_out,
        "--seed",
        "1",
        "--workers",
        "2",
        "--generation-database",
        "none",
        "--no-color",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=580
    )
