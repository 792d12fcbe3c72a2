"""Shows the story to a person, or says the same facts in JSON."""

import hashlib
import json
import sys
from datetime import UTC, datetime
from itertools import groupby
from typing import Self

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from messaging.demo.story import Outcome
from messaging.wire.assistant import Summary
from messaging.wire.identifiers import MessageId


class TerminalNarrator:
    """Progress with a bar, on standard error; gone when the step is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._progress.stop()

    def step(self, what: str) -> None:
        """A new line with a bar that runs until the next step."""
        self._finish()
        self._task = self._progress.add_task(what, total=None)

    def progress(self, done: int, total: int) -> None:
        """Fill the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=1, total=1)
            self._progress.stop_task(self._task)


class PlainNarrator:
    """One plain line a step, on standard error: for logs and for machines that read standard output."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, what: str) -> None:
        """Say it."""
        sys.stderr.write(f"· {what}\n")
        sys.stderr.flush()

    def progress(self, done: int, total: int) -> None:
        """Silent."""


def show(outcome: Outcome, console: Console) -> None:
    """The whole story, for a person."""
    console.print()
    _show_consent(outcome, console)
    _show_evidence(outcome, console)
    _show_answers(outcome, console)
    _show_receipt(outcome, console)
    _show_refusals(outcome, console)
    _show_server(outcome, console)


def as_json(outcome: Outcome) -> str:
    """The same facts, for machines."""
    return json.dumps(facts(outcome), ensure_ascii=False, indent=2)


def facts(outcome: Outcome) -> dict[str, object]:
    """What ``--json`` prints. Bytes are hexadecimal, times ISO 8601, sizes bytes."""
    coverage, findings = outcome.summary.coverage, outcome.findings
    return {
        "cast": list(outcome.script.cast),
        "opted_in": sorted(outcome.script.opted_in),
        "not_opted_in": list(outcome.script.not_opted_in),
        "requester": outcome.script.requester,
        "messages_skipped": outcome.script.skipped,
        "messages_sent": outcome.messages_sent,
        "messages_delivered": outcome.messages_delivered,
        "evidence": {
            "simulated": outcome.claims.simulated,
            "release": outcome.claims.release,
            "measurement": outcome.claims.measurement.hex(),
            "identity_key_sha256": hashlib.sha256(outcome.claims.identity_key).hexdigest(),
            "checks": list(outcome.claims.checks),
            "strict_policy_says": outcome.refusals.strict_policy,
        },
        "summary": _lines(outcome, outcome.summary),
        "questions": _lines(outcome, outcome.questions),
        "actions": _lines(outcome, outcome.actions),
        "replies": list(outcome.replies.texts),
        "left_out": coverage.left_out,
        "coverage": {
            "used": coverage.used,
            "not_opted_in": coverage.not_opted_in,
            "not_held": coverage.not_held,
        },
        "engine": outcome.speaker.engine,
        "weights_digest": outcome.speaker.model.hex(),
        "receipt": {
            "accepted": not outcome.receipt.appraisal.errors,
            "steps": [step.statement for step in outcome.receipt.appraisal.steps],
            "consents": [outcome.names[shown.author] for shown in outcome.receipt.file.consents],
        },
        "refusals": {
            "not_opted_in": outcome.refusals.not_opted_in,
            "needs_generating_engine": outcome.refusals.no_writer,
        },
        "upgrade": {
            "stopped": outcome.moved.stopped,
            "left_out_at_first": outcome.moved.coverage.left_out,
            "used_at_first": outcome.moved.coverage.used,
            "used_after_one_message": outcome.moved.after.used,
        },
        "plaintext_found": len(findings.places),
        "server": {
            "rows": dict(findings.rows),
            "files": dict(findings.files),
            "texts_searched": findings.searched,
            "texts_too_short_to_search": findings.too_short,
            "search_works": findings.control_found,
        },
        "seconds": outcome.seconds,
    }


def _lines(outcome: Outcome, summary: Summary) -> list[dict[str, object]]:
    return [
        {"text": line.text, "kind": line.kind, "cites": [_cite(outcome, cite) for cite in line.cites]}
        for line in summary.lines
    ]


def _cite(outcome: Outcome, cite: MessageId) -> dict[str, str]:
    return {"from": outcome.names[cite.author], "at": _time(cite).isoformat(), "text": outcome.texts[cite]}


def _time(message: MessageId) -> datetime:
    return datetime.fromtimestamp(message.timestamp / 1000, UTC)


def _show_consent(outcome: Outcome, console: Console) -> None:
    script = outcome.script
    people = Table(title="Who lets the assistant have their own messages", title_justify="left", box=None)
    people.add_column("", width=14)
    people.add_column("")
    for name in script.cast:
        if name in script.opted_in:
            people.add_row(Text(name), Text("opted in, after verifying the enclave", style="green"))
        else:
            people.add_row(Text(name), Text("has not: the enclave has no key for these messages", style="yellow"))
    console.print(people)
    console.print(
        f"\n{len(script.messages)} messages, {outcome.messages_sent} deliveries, {outcome.messages_delivered} read by "
        "their recipients. Every one was encrypted on the sender's device."
    )
    if script.skipped:
        console.print(f"{script.skipped} messages of the file were not played: the story has room for fewer.")


def _show_evidence(outcome: Outcome, console: Console) -> None:
    claims = outcome.claims
    lines = Text()
    for check in claims.checks:
        lines.append("✓ ", style="green")
        lines.append(f"{check}\n")
    lines.append(f"release      {claims.release}\n")
    lines.append(f"measurement  {claims.measurement.hex()[:32]}…\n")
    lines.append("\nTHIS TEE IS SIMULATED. ", style="bold white on red")
    lines.append(
        " It has the shape of a confidential machine and none of its protection: whoever runs it can read what it holds. "
        "Only a policy named UnsafeAcceptSimulated accepts it. The strict policy said:\n"
    )
    lines.append(f"✗ {outcome.refusals.strict_policy}", style="red")
    console.print(Panel(lines, title="The evidence, appraised by each who opted in", title_align="left"))


def _show_answers(outcome: Outcome, console: Console) -> None:
    sources: dict[MessageId, int] = {}
    body = Text()
    for line in outcome.summary.lines:
        numbers = [sources.setdefault(cite, len(sources) + 1) for cite in line.cites]
        body.append(f"• {line.text} ")
        body.append("".join(f"[{number}]" for number in numbers) + "\n", style="cyan")
    if not outcome.summary.lines:
        body.append("Nothing to summarize.\n")
    body.append("\n")
    for cite, number in sources.items():
        body.append(f"[{number}] ", style="cyan")
        body.append(f"{outcome.names[cite.author]}: {_short(outcome.texts[cite])}\n", style="dim")
    asker = outcome.script.requester
    console.print(Panel(body, title=f"Summary for {asker}, by {outcome.speaker.engine}", title_align="left"))
    coverage = outcome.summary.coverage
    console.print(
        f"It rests on {coverage.used} messages. Left out: {coverage.left_out}, of these {coverage.not_opted_in} because "
        f"their authors have not opted in{_who(outcome.script.not_opted_in)}."
    )
    for title, summary in (("Questions that wait for " + asker, outcome.questions), ("Actions", outcome.actions)):
        console.print(f"\n{title}:")
        for line in summary.lines:
            console.print(Text(f"  • {line.text}  ({line.kind.replace('_', ' ')})"))
        if not summary.lines:
            console.print(Text("  none found", style="dim"))
    console.print(f"\nReplies that {asker} could send; nobody sends them by themselves:")
    for text in outcome.replies.texts:
        console.print(Text(f"  ▸ {text}", style="magenta"))
    console.print()


def _show_receipt(outcome: Outcome, console: Console) -> None:
    """As any member sees it who is named in it, without what was asked and answered."""
    body = Text()
    people = {f"consent of {shown.author}": outcome.names[shown.author] for shown in outcome.receipt.file.consents}
    for subject, group in groupby(outcome.receipt.appraisal.steps, key=lambda step: step.subject):
        steps = list(group)
        if subject in people and not any(step.error for step in steps):
            body.append("✓ ", style="green")
            body.append(f"{people[subject]} has consented: signed, about this conversation, in force, for summaries.\n")
            continue
        for step in steps:
            body.append("✓ " if step.error is None else "✗ ", style="green" if step.error is None else "red")
            body.append(f"{step.statement}\n")
    body.append("\nAny of them can be shown it, without what was asked and answered.\n")
    body.append("Save it with --receipt FILE, and check it anywhere: subrosa verify FILE", style="dim")
    console.print(Panel(body, title="The receipt of that summary, checked offline", title_align="left"))


def _show_refusals(outcome: Outcome, console: Console) -> None:
    refusals, moved = outcome.refusals, outcome.moved
    asker = outcome.script.requester
    if refusals.not_opted_in:
        console.print(
            Text(f"✗ {outcome.script.not_opted_in[0]} asked for a summary: {refusals.not_opted_in}.", style="yellow")
        )
    console.print(Text(f"✗ {asker} asked to have a draft rewritten: {refusals.no_writer}.", style="yellow"))
    console.print(
        f"\nThen {moved.stopped} was stopped, as for an upgrade. {asker}'s device verified the other enclave and went on by "
        f"itself. That one knew nothing from before: it left out {moved.coverage.left_out} messages. After the next message its "
        f"summary rested on {moved.after.used}.\n",
        highlight=False,
    )


def _show_server(outcome: Outcome, console: Console) -> None:
    findings = outcome.findings
    held = Table(title="What the server holds", title_justify="left")
    held.add_column("table")
    held.add_column("rows", justify="right")
    for table, rows in findings.rows.items():
        held.add_row(table, str(rows))
    files = Table(title="In these files", title_justify="left")
    files.add_column("file")
    files.add_column("bytes", justify="right")
    for name, size in findings.files.items():
        files.add_row(name, f"{size:,}")
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row(held, files)
    console.print(side_by_side)
    if findings.places:
        console.print(Text(f"PLAINTEXT FOUND in: {', '.join(findings.places)}", style="bold white on red"))
        return
    console.print(
        f"Searched every table and every file, logs included, for {findings.searched} texts, as UTF-8, UTF-16 and base64: "
        "[bold green]none was found[/].",
        highlight=False,
    )
    if findings.too_short:
        console.print(f"{findings.too_short} texts are too short to search for: they occur in random bytes by chance.")
    if not findings.control_found:
        console.print(Text("But the search did not find what must be there either: do not rely on it.", style="red"))


def _who(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _short(text: str, width: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
