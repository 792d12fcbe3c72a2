"""The relay beside raw floors and other servers, in one run: ``python -m benchmarks.relay``.

It drives a load harness that is not part of this repository: its folder is ``--harness`` or ``SUBROSA_BENCH``, by default
``../shared/bench``. Peers that are not installed are left out. Each round measures all targets in a random order; figures are
medians over the rounds, and ratios are taken within a round. Figures, charts and raw rows go to ``--out``.
"""

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._charts import write_bars

ROOT = Path(__file__).resolve().parents[1]
BASE = "floor-group"
EXTRAS = ("fanout", "hostile")
CHARTS = (
    ("closed50", "cpu_ms_per_msg", "Server CPU for a durable message, 50 pairs", "ms"),
    ("closed50", "delivered_per_s", "Delivered, 50 pairs", "messages per second"),
    ("closed200", "cpu_ms_per_msg", "Server CPU for a durable message, 200 pairs", "ms"),
    ("open500", "e2e_p99_ms", "End to end at 500 messages per second, 99th percentile", "ms"),
    ("idle2000", "kib_per_conn", "Memory of an idle socket", "KiB"),
    ("backlog10000", "drain_s", "10,000 waiting messages delivered", "s"),
)
HOSTILE_SECONDS = 10
FAN_MESSAGES = 1500

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if not (arguments.harness / "relaybench").is_dir():
        sys.stderr.write(f"bench relay: no load harness in {arguments.harness}; name its folder with --harness\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = arguments.out / "relay.toml"
    text = (ROOT / "benchmarks" / "relay.toml").read_text()
    config.write_text(text.replace("{python}", sys.executable).replace("{root}", str(ROOT)))
    raw = arguments.out / "relay.jsonl"
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        Path(work).chmod(0o711)  # PostgreSQL, started as root, is another user
        if not arguments.only_extras:
            _run_harness(arguments, config, raw, Path(work) / "rounds")
        if arguments.extras or arguments.only_extras:
            found = asyncio.run(_extras(arguments.harness, config, Path(work), arguments.extras or EXTRAS))
            (arguments.out / "extras.json").write_text(json.dumps(found, indent=2) + "\n")
            print(json.dumps(found, indent=2))
    if raw.exists():
        write_charts([json.loads(line) for line in raw.read_text().splitlines()], arguments.out)
    return 0


def _run_harness(arguments: argparse.Namespace, config: Path, raw: Path, work: Path) -> None:
    command = [sys.executable, "-m", "relaybench", "run", str(config), "--work", str(work), "--out", str(raw.resolve())]
    command += ["--rounds", str(arguments.rounds), "--base", BASE]
    for name in ("only", "workloads"):
        if value := getattr(arguments, name):
            command += [f"--{name}", value]
    subprocess.run(command, cwd=arguments.harness, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def write_charts(rows: Iterable[Row], folder: Path) -> None:
    """One file for each figure that was measured, of medians over the rounds."""
    good = [row for row in rows if "error" not in row]
    for workload, figure, title, unit in CHARTS:
        names = dict.fromkeys(row["target"] for row in good if row["workload"] == workload and figure in row)
        bars = [
            (
                name,
                statistics.median(row[figure] for row in good if (row["target"], row["workload"]) == (name, workload)),
            )
            for name in names
        ]
        if bars:
            write_bars(folder / f"{workload}-{figure}.svg", title, unit, sorted(bars, key=lambda bar: bar[1]))


async def _extras(harness: Path, config: Path, work: Path, names: Sequence[str]) -> dict[str, Any]:
    """What the harness has no workload for, on one relay."""
    sys.path.insert(0, str(harness))
    parts = {name: importlib.import_module(f"relaybench.{name}") for name in ("peers", "adapters", "workloads", "proc")}
    target = next(each for each in tomllib.loads(config.read_text())["target"] if each["name"] == "relay")
    os.environ.update(_environment())
    server = parts["peers"].start(str(work / "extras"), target)
    try:
        measures: dict[str, Callable[..., Any]] = {"fanout": _fan_out, "hostile": _hostile}
        return {name: await measures[name](parts, server, target) for name in names}
    finally:
        server.stop()


async def _fan_out(parts: dict[str, Any], server: Any, target: Row) -> dict[str, float]:  # noqa: ANN401 - the harness's
    """CPU of one send to 1 to 6 connected devices, and what one more device costs, by least squares."""
    from benchmarks._profile import Fan

    adapter = parts["adapters"].make(server, target)
    cost: dict[int, float] = {}
    for devices in (1, 3, 6):
        adapter.p = Fan(server.port, devices)
        got = [0]

        def count(_payload: bytes, got: list[int] = got) -> None:
            got[0] += 1

        receivers = [await adapter.receiver("fan", count, index=index) for index in range(1, devices + 1)]
        senders = [await adapter.sender(f"s{number}") for number in range(50)]
        left = iter(range(FAN_MESSAGES))
        before = parts["proc"].cpu(server.roots)

        async def send(sender: Any, left: Iterable[int] = left) -> None:  # noqa: ANN401
            for _ in left:
                await sender.send("fan", bytes(1024))

        await asyncio.gather(*map(send, senders))
        while got[0] < FAN_MESSAGES * devices:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        cost[devices] = 1000 * (parts["proc"].cpu(server.roots) - before) / FAN_MESSAGES
        for each in [*receivers, *senders]:
            (getattr(each, "end", None) or each.close)()
    slope, _ = statistics.linear_regression(list(cost), list(cost.values()))
    return {**{f"cpu_ms_{devices}_devices": each for devices, each in cost.items()}, "cpu_ms_per_extra_device": slope}


async def _hostile(parts: dict[str, Any], server: Any, target: Row) -> dict[str, float]:  # noqa: ANN401
    """The latency of others, before and during an attack (``benchmarks._hostile``): medians of three."""
    adapter = parts["adapters"].make(server, target)

    async def p99() -> float:
        found = [
            await parts["workloads"].open_loop(server, adapter, pairs=50, rate=100, seconds=HOSTILE_SECONDS)
            for _ in range(3)
        ]
        return float(statistics.median(row["e2e_p99_ms"] for row in found))

    quiet = await p99()
    attack = subprocess.Popen([sys.executable, "-m", "benchmarks._hostile", str(server.port)])
    try:
        await asyncio.sleep(5)
        attacked = await p99()
    finally:
        attack.kill()
        attack.wait()
    return {"p99_ms": quiet, "p99_ms_attacked": attacked, "ratio": attacked / quiet}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 dev.py bench relay", description=__doc__)
    default = Path(os.environ.get("SUBROSA_BENCH", ROOT.parent / "shared" / "bench"))
    parser.add_argument("--harness", type=Path, default=default, help="the folder of the load harness")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--only", help="targets, comma-separated (default: all that are installed)")
    parser.add_argument("--workloads", help="workloads, comma-separated (default: all)")
    parser.add_argument("--extras", nargs="*", choices=EXTRAS, help="also what the harness has no workload for")
    parser.add_argument("--only-extras", action="store_true", help="only those")
    parser.add_argument("--out", type=Path, default=Path("var/bench"), help="folder for figures (default: var/bench)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
