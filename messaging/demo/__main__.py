"""``python -m messaging.demo``: plays the story, as ``subrosa demo`` and ``python3 dev.py run`` do."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attestation.appraisal.policy_file import PolicyKey
from messaging.client import ClientError
from messaging.demo.chat_file import ChatFileError, read_chat
from messaging.demo.services import Folders, ServiceFailed, bot_invite, running_console, write_policy
from messaging.demo.story import Narrator, Outcome, Script, StoryFailed, play, write_script
from messaging.demo.terminal import PlainNarrator, TerminalNarrator, as_json, show
from signal_protocol.errors import SignalError

SAMPLE = Path(__file__).parent / "chats" / "weekend.jsonl"
BOTS = 20  # that may register at the story's relay
FAILURES = (StoryFailed, ServiceFailed, ClientError, SignalError)

DESCRIPTION = """\
Watch Sub Rosa work: a relay that cannot read, people who talk through it, two enclaves that some of them let in, what these
answer and sign for, and what the server holds in the end. Everything is real (libsignal, TLS, databases, the language
model) but one thing: the TEE is simulated. It all runs on this machine, on loopback, in a folder that is removed at the end."""

EPILOG = """\
examples:
  python3 dev.py run                          play the sample, then stay up until Ctrl-C
  python3 dev.py run --once --json            play it, print the facts, exit 0 or 1
  python3 dev.py run --once --receipt r.json  play it, and keep the receipt of the summary: subrosa verify r.json
  python3 dev.py run --chat "WhatsApp Chat with Family.txt" --without Ann

--chat reads a WhatsApp text export (bracketed or dashed dates, 12 or 24 hours) or JSON lines {"from", "at", "text"}.
Nothing of it leaves this machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Play the story; returns 0 if everything was as it must be, 1 if not, 2 for wrong options or a broken chat file."""
    arguments = _parser().parse_args(argv)
    try:
        chat = read_chat(arguments.chat)
        script = write_script(chat, without=arguments.without, requester=arguments.requester)
    except (ChatFileError, StoryFailed) as error:
        return _say(f"{arguments.chat}: {error}" if isinstance(error, ChatFileError) else str(error), 2)
    try:
        with _folders(arguments.data) as folders:
            return asyncio.run(_play(script, folders, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except FAILURES as error:
        return _say(f"The story stopped: {error}", 1)
    except ExceptionGroup as errors:
        known, unknown = errors.split(FAILURES)
        if known is None or unknown is not None:
            raise
        return _say(f"The story stopped: {_first(known)}", 1)


async def _play(script: Script, folders: Folders, arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    plain = arguments.json or not sys.stderr.isatty()
    narrator: Narrator = PlainNarrator() if plain else TerminalNarrator()
    async with play(script, folders, narrator, port=arguments.port, go_on=not arguments.once) as outcome:
        for path, saved in ((arguments.bundle, outcome.bundle), (arguments.receipt, outcome.receipt.file)):
            if path is not None:
                try:
                    await asyncio.to_thread(path.write_bytes, saved.encode())
                except OSError as error:
                    return _say(f"{path} cannot be written: {error.strerror}", 1)
        if arguments.json:
            sys.stdout.write(as_json(outcome) + "\n")
            sys.stdout.flush()
        else:
            show(outcome, Console())
        if not arguments.once:
            await _stay_up(outcome, folders, Console(stderr=arguments.json))
    return 0 if outcome.went_well else 1


async def _stay_up(outcome: Outcome, folders: Folders, terminal: Console) -> None:
    """Until Ctrl-C, with everything that somebody may want to try."""
    policy, key = write_policy(folders, outcome.claims)
    async with running_console(folders, policy, key) as console:
        _how_to_connect(outcome, folders, terminal)
        _how_to_run_bots(outcome, folders, await bot_invite(folders, BOTS), policy, key, terminal)
        _how_to_look_after_it(console, terminal)
        await asyncio.Event().wait()


def _how_to_look_after_it(console: Mapping[str, str], terminal: Console) -> None:
    terminal.print(
        f"The operators' console (docs/console.md): {console['url']}\n"
        "Become its owner here, with a passkey of this device; the link is good once:\n"
        f"  {console['firstLink']}\n"
        "The cast talks on meanwhile, so that there is something to see.\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _how_to_connect(outcome: Outcome, folders: Folders, console: Console) -> None:
    port = outcome.url.rpartition(":")[2]
    console.print()
    console.rule("Everything stays up; Ctrl-C ends it")
    console.print(
        f"relay               {outcome.url}   (facts: {outcome.url}/v1/server-info)\n"
        f"root certificate    {folders.ca}   (DER: {folders.ca.with_suffix('.der')})\n"
        f"verification codes  {folders.codes}   (one JSON line for each code)\n\n"
        "With the official libsignal client for Node, unchanged:\n"
        f"  new Net({{ localTestServer: true, TESTING_localServer_chatPort: {port},\n"
        "            TESTING_localServer_rootCertificateDer: readFileSync('ca.der'), ... })\n"
        "With our SDK for Python: see docs/protocol.md and messaging/client.\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _how_to_run_bots(
    outcome: Outcome, folders: Folders, invite: str, policy: Path, key: PolicyKey, console: Console
) -> None:
    console.print(
        "To run a bot here (docs/bots.md), in another terminal:\n"
        f"  export SUBROSA_RELAY={outcome.url} SUBROSA_CA={folders.ca} SUBROSA_INVITE={invite}\n"
        "  .venv/bin/python examples/bots/echo.py\n"
        "and in a third one, with the account that the bot prints:\n"
        f"  export SUBROSA_RELAY={outcome.url} SUBROSA_CA={folders.ca} SUBROSA_CODES={folders.codes}\n"
        "  .venv/bin/subrosa bot talk ACCOUNT\n"
        "A bot that asks the assistant needs the policy that accepts these simulated enclaves, too:\n"
        f"  export SUBROSA_POLICY={policy} SUBROSA_POLICY_KEY={key}\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@contextmanager
def _folders(data: Path | None) -> Iterator[Folders]:
    """The run's folder: the one given, which stays, or a temporary one, which is removed."""
    root = data or Path(tempfile.mkdtemp(prefix="subrosa-"))
    folders = Folders(root)
    if data is not None and data.exists() and any(data.iterdir()):
        raise StoryFailed("The folder given with --data is not empty; each story starts from nothing.")
    try:
        folders.create()
        yield folders
    finally:
        if data is None:
            shutil.rmtree(root, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subrosa demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="end after the story: 0 if all was as it must be, else 1")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON on standard output")
    parser.add_argument(
        "--chat", metavar="FILE", type=Path, default=SAMPLE, help="play this chat instead of the sample"
    )
    parser.add_argument(
        "--without",
        metavar="NAME",
        action="append",
        default=[],
        help="this person does not opt in (may be repeated; default: the quietest of three or more)",
    )
    parser.add_argument("--bundle", metavar="FILE", type=Path, help="save the evidence, to look at with subrosa verify")
    parser.add_argument(
        "--receipt", metavar="FILE", type=Path, help="save the receipt of the summary, to check it with subrosa verify"
    )
    parser.add_argument("--requester", metavar="NAME", help="this person asks the assistant (default: a busy one)")
    parser.add_argument("--port", type=int, default=0, help="of the relay (default: a free one)")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="keep the run's files here (default: removed)")
    return parser


def _say(sentence: str, code: int) -> int:
    Console(stderr=True).print(Text(sentence, style="red"), soft_wrap=True)
    return code


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of errors that happened together, one to tell."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
