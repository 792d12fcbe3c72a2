"""``subrosa verify``: judge a receipt, a bundle or an evidence document, offline."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from rich.console import Console

from attestation import Appraisal, assess
from attestation.errors import Kind
from messaging.client.receipt_checks import ReceiptAppraisal, assess_receipt
from messaging.client.receipts import ReceiptFile
from messaging.verify.files import Unreadable, read_member, read_policy, read_presented, read_time
from messaging.verify.printing import say
from messaging.verify.report import Judged, facts, show

ACCEPTED, REFUSED, UNREADABLE = 0, 1, 2

DESCRIPTION = """\
Check where an enclave runs, offline: is the hardware genuine, its firmware good, its code an accepted release, and do
its keys belong to it? FILE is a bundle (evidence, the nonce it answers, what the vendors say, and the time), a bare
evidence document, or a receipt file. Every check is shown; what fails is explained.

A receipt file is what a member keeps of one answer of the assistant: the enclave's signature under what was asked and
answered (as digests), by which model, and with whose consent; the bundle that proves whose signature it is; and the
statements of consent. All of it is checked. It says which members let their messages be used, and for what."""

EPILOG = """\
exit code:
  0 accepted   1 refused   2 the file, the policy or an option cannot be read

examples:
  subrosa verify bundle.json --policy policy.toml --policy-key clinic+0bf745ee+ATmgV564…
  subrosa verify bundle.json --policy policy.toml --policy-key policy.pub --at now --json
  subrosa verify receipt.json --policy policy.toml --policy-key policy.pub --me 9d0652a3-dcc3-4d11-975f-74d61598733f
  subrosa policy template > policy.toml       a policy to begin with, every field explained

Without --policy nothing can be accepted, because no code is: the checks of the hardware are shown all the same.
A bundle is judged at the time that stands in it, so that old evidence can be looked at again; nobody vouches for that
time. --at now asks whether the same evidence would still be accepted today. A receipt's own checks do not depend on it."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="subrosa verify",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("file", metavar="FILE", type=Path, help="a receipt file, a bundle, or an evidence document")
    options.add_argument("--policy", metavar="FILE", type=Path, help="what to accept: a signed policy")
    signature = options.add_mutually_exclusive_group()
    signature.add_argument(
        "--policy-key", metavar="KEY", help="whose signature the policy has to carry: a key, or a file that holds one"
    )
    signature.add_argument(
        "--unsafe-unsigned-policy",
        action="store_true",
        help="read the policy without asking who signed it; the result will say so",
    )
    options.add_argument(
        "--at", metavar="TIME", help="judge at this time: 2026-06-01T12:00:00Z, or now (default: the bundle's time)"
    )
    options.add_argument(
        "--nonce", metavar="HEX", help="the nonce that the evidence has to answer (default: the bundle's)"
    )
    options.add_argument(
        "--me", metavar="SERVICE_ID", help="of a receipt: say whether this member is named, and under which consent"
    )
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Judge; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        judged = judge(arguments)
        page = _as_json(judged) if arguments.json else _as_text(judged)
    except Unreadable as error:
        return _unreadable(str(error), as_json=arguments.json)
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with us, this is no acceptance, and nobody's stack trace
        return _unreadable(
            f"This is a fault of subrosa ({type(error).__name__}): please report it.", as_json=arguments.json
        )
    if not say(page, "subrosa verify"):
        return UNREADABLE
    return UNREADABLE if _unread(judged) else REFUSED if judged.errors else ACCEPTED


def judge(arguments: argparse.Namespace) -> Judged:
    """Read what the options name, and appraise it.

    Raises:
        Unreadable: something cannot be read.
    """
    me = read_member(arguments.me)
    presented = read_presented(arguments.file, arguments.nonce)
    if me is not None and presented.receipt is None:
        raise Unreadable(f"{arguments.file} is no receipt file: only a receipt names members (--me).")
    policy = read_policy(arguments.policy, arguments.policy_key, unsigned=arguments.unsafe_unsigned_policy)
    if arguments.at is not None:
        time, origin = read_time(arguments.at), "option"
    elif presented.time is not None:
        time, origin = presented.time, "file"
    else:
        time, origin = datetime.now(UTC), "clock"
    appraisal = assess(
        presented.evidence,
        nonce=presented.nonce,
        policy=policy.policy,
        now=time,
        collateral=presented.collateral,
    )
    nonce_from = "file" if presented.nonce_from_file else "option"
    receipt = None if presented.receipt is None else _assess_receipt(presented.receipt, appraisal)
    return Judged(appraisal, policy, time, origin, nonce_from, receipt, me)


def _assess_receipt(file: ReceiptFile, appraisal: Appraisal) -> ReceiptAppraisal:
    return assess_receipt(file, None if appraisal.errors else appraisal.claims())


def _unread(judged: Judged) -> bool:
    """Whether there was nothing that could be judged."""
    steps = judged.appraisal.steps[:2]
    unread = any(step.last and step.error and step.error.kind is Kind.SYNTAX for step in steps)
    return unread or (judged.receipt is not None and not judged.receipt.readable)


def _as_json(judged: Judged) -> str:
    return json.dumps(facts(judged), ensure_ascii=False, indent=2) + "\n"


def _as_text(judged: Judged) -> str:
    page = StringIO()  # whole before anything is printed: an exit code has to follow from the judgement alone
    terminal = sys.stdout is not None and sys.stdout.isatty()
    show(judged, Console(file=page, force_terminal=terminal, width=Console().width, highlight=False))
    return page.getvalue()


def _unreadable(why: str, *, as_json: bool) -> int:
    if as_json:
        say(json.dumps({"verdict": "unreadable", "why": why}, ensure_ascii=False) + "\n", "subrosa verify")
    else:
        sys.stderr.write(f"subrosa verify: {why}\n")
    return UNREADABLE


if __name__ == "__main__":
    sys.exit(main())
