"""One appraisal in words, or the same in JSON; with a receipt, that of the receipt too."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attestation import Appraisal, AttestationError, Claims
from attestation.appraisal import Step
from attestation.appraisal.claims import NotProved
from messaging.client.receipt_checks import ReceiptAppraisal
from messaging.verify import receipt_report
from messaging.verify.files import ChosenPolicy
from messaging.wire.identifiers import ServiceId

FRESHNESS = NotProved(
    "that it is fresh",
    "The nonce is the file's own: whoever made the file chose it. That the evidence was made for you, and now, only a nonce "
    "of your own shows (--nonce).",
)
_INDENT = 6  # columns, under the text of a step


@dataclass(frozen=True, slots=True)
class Judged:
    """An appraisal, under which policy and at which time.

    ``time_from`` is "file", "option" or "clock". ``nonce_from`` is "option" if whoever asks chose the nonce; a nonce of the
    file's own shows that the parts belong together, and nothing about when they were made. ``receipt`` is there if one was shown,
    ``me`` if a member asks what it says of them.
    """

    appraisal: Appraisal
    policy: ChosenPolicy
    time: datetime
    time_from: str
    nonce_from: str
    receipt: ReceiptAppraisal | None = None
    me: ServiceId | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All checks: of the evidence, then of the receipt."""
        return (*self.appraisal.steps, *(self.receipt.steps if self.receipt else ()))

    @property
    def errors(self) -> tuple[AttestationError, ...]:
        """Why it is refused; empty if it is accepted."""
        return tuple(step.error for step in self.steps if step.error is not None)

    @property
    def claims(self) -> Claims | None:
        """What was proved; ``None`` if anything is refused."""
        return None if self.errors else self.appraisal.claims()

    @property
    def verdict(self) -> str:
        """``accepted`` or ``refused``."""
        return "refused" if self.errors else "accepted"


def facts(judged: Judged) -> dict[str, object]:
    """What ``--json`` prints. Bytes are hexadecimal, times RFC 3339."""
    appraisal, claims = judged.appraisal, judged.claims
    return {
        "verdict": judged.verdict,
        "genuine": appraisal.genuine,
        "time": judged.time.isoformat(),
        "time_from": judged.time_from,
        "nonce_from": judged.nonce_from,
        "policy": {"name": judged.policy.policy.name, "signed_by": judged.policy.signer or None},
        "weakened_by": list(appraisal.weakenings),
        "steps": [_step(step) for step in judged.steps],
        "claims": None if claims is None else _claims(claims),
        "not_proved": {item.name: item.text for item in _gaps(judged, claims)} if claims else {},
        **(receipt_report.facts(judged.receipt, judged.me, proved=claims is not None) if judged.receipt else {}),
    }


def show(judged: Judged, console: Console) -> None:
    """The same, for a person: each step, what failed, why, and what that means."""
    origin = {"file": "the time in the file", "option": "as asked", "clock": "now"}[judged.time_from]
    signed = f", signed by {judged.policy.signer}" if judged.policy.signer else ""
    console.print(Text(f'Policy   "{judged.policy.policy.name}"{signed}'))
    console.print(Text(f"Judged   at {judged.time.isoformat(' ', 'seconds')} ({origin})\n"))
    for subject, steps in groupby(judged.steps, key=lambda step: step.subject):
        console.print(Text(subject, style="bold"))
        for step in steps:
            _show_step(step, console)
    console.print()
    if judged.claims is not None:
        _show_claims(judged, judged.claims, console)
    if judged.receipt is not None and judged.me is not None:
        told = receipt_report.about(judged.receipt, judged.me, proved=judged.claims is not None)
        console.print(Text(f"About {judged.me}", style="bold"))
        console.print(_indented(Text(f"{told}\n"), 2))
    _show_verdict(judged, console)


def _step(step: Step) -> dict[str, object]:
    told: dict[str, object] = {"about": step.subject, "statement": step.statement, "passed": step.error is None}
    if step.detail:
        told["found"] = step.detail
    if step.error is not None:
        told |= {"check": step.error.check, "kind": str(step.error.kind)}
        told |= {"why": str(step.error), "means": step.error.meaning, "ended": step.last}
    return told


def _claims(claims: Claims) -> dict[str, object]:
    return {
        "identity_key": claims.identity_key.hex(),
        "receipt_key": claims.receipt_key.hex(),
        "release": claims.release,
        "simulated": claims.simulated,
        "cpu": {
            "type": str(claims.cpu.type),
            "product": claims.cpu.product,
            "chip": claims.cpu.chip.hex(),
            "firmware": claims.cpu.firmware,
            "measurement": claims.cpu.measurement.hex(),
        },
        "devices": [
            {
                "type": str(device.type),
                "id": device.id.hex(),
                "product": device.product,
                "driver": device.driver,
                "vbios": device.vbios,
            }
            for device in claims.devices
        ],
    }


def _show_step(step: Step, console: Console) -> None:
    if step.error is None:
        line = Text.assemble(("  ✓ ", "green"), step.statement, (f"  {step.detail}" if step.detail else "", "dim"))
        console.print(line)
        return
    console.print(Text.assemble(("  ✗ ", "bold red"), (step.statement, "red"), (f"  [{step.error.check}]", "dim")))
    console.print(_indented(Text(f"Why:   {step.error}")))
    console.print(_indented(Text(f"Means: {step.error.meaning}")))
    if step.last:
        console.print(_indented(Text("Checks that rest on this one were not made.", style="dim")))


def _indented(text: Text, columns: int = _INDENT) -> Padding:
    return Padding(text, (0, 0, 0, columns), expand=False)


def _gaps(judged: Judged, claims: Claims) -> tuple[NotProved, ...]:
    of_receipt = receipt_report.gaps(judged.receipt) if judged.receipt else ()
    return (*of_receipt, *(() if judged.nonce_from == "option" else (FRESHNESS,)), *claims.not_proved)


def _show_claims(judged: Judged, claims: Claims, console: Console) -> None:
    console.print(Text("What this proves", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        *(receipt_report.rows(judged.receipt) if judged.receipt else ()),
        ("release", claims.release),
        ("identity key", claims.identity_key.hex()),
        ("receipt key", claims.receipt_key.hex()),
        ("machine", ", ".join(dict.fromkeys([claims.cpu.type, claims.cpu.product, claims.cpu.firmware]))),
        ("chip", claims.cpu.chip.hex() or "not named"),
        ("measurement", claims.cpu.measurement.hex()),
        *(("device", f"{item.product} {item.id.hex()}") for item in claims.devices),
    ):
        table.add_row(Text(name), Text(value))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    console.print(Text("\nWhat this cannot prove", style="bold"))
    for item in _gaps(judged, claims):
        console.print(_indented(Text.assemble((f"{item.name}: ", "yellow"), item.text), 2))
    console.print()


def _show_verdict(judged: Judged, console: Console) -> None:
    appraisal = judged.appraisal
    if appraisal.weakenings:
        console.print(Text(f"WEAKENED BY  {', '.join(appraisal.weakenings)}", style="bold white on red"))
    if not judged.errors:
        if judged.claims is not None and judged.claims.simulated:
            text = "ACCEPTED AS A SIMULATION: nothing is proved about hardware, and its operator can read everything."
            console.print(Text(text, style="bold white on red"))
        else:
            console.print(Text(f"ACCEPTED: all {len(judged.steps)} checks passed.", style="bold green"))
        return
    failed = ", ".join(dict.fromkeys(error.check for error in judged.errors))
    genuine = " The evidence itself is genuine." if appraisal.genuine else ""
    text = f"REFUSED: {len(judged.errors)} of {len(judged.steps)} checks failed ({failed}).{genuine}"
    console.print(Text(text, style="bold red"))
