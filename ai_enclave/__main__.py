"""``python -m ai_enclave``: the enclave service, as ``subrosa enclave`` starts it."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Run one assistant: it makes its keys in memory, registers with the relay under NAME, and answers members who opted in.
It keeps nothing on disk and forgets everything when it stops.

Of this version the TEE is SIMULATED: its evidence has the right shape and proves nothing. Clients refuse it unless
their policy is UnsafeAcceptSimulated. Do not give it messages that its operator may not read."""

EXAMPLE = """\
example:
  subrosa enclave --relay https://127.0.0.1:8443 --ca-file relay-ca.pem --assistant-token-file assistant.token \\
      --unsafe-simulated-tee

Options may also be given as SUBROSA_RELAY, SUBROSA_CA_FILE, SUBROSA_ASSISTANT_TOKEN_FILE and SUBROSA_ASSISTANT_NAME."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    environment = os.environ.get
    options = argparse.ArgumentParser(
        prog="subrosa enclave",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--relay", metavar="URL", default=environment("SUBROSA_RELAY"), help="where the relay is")
    options.add_argument(
        "--ca-file",
        metavar="PEM",
        type=Path,
        default=environment("SUBROSA_CA_FILE"),
        help="the certificate authority of the relay, if it is not a public one",
    )
    options.add_argument(
        "--name", default=environment("SUBROSA_ASSISTANT_NAME", "assistant"), help="of the assistant account"
    )
    options.add_argument(
        "--assistant-token-file",
        metavar="FILE",
        type=Path,
        default=environment("SUBROSA_ASSISTANT_TOKEN_FILE"),
        help="holds the secret that lets an enclave register as an assistant; the relay has the same file",
    )
    options.add_argument(
        "--unsafe-simulated-tee", action="store_true", help="required: no genuine TEE is supported in this version"
    )
    options.add_argument("--json-ready", action="store_true", help="when ready, print one JSON line on standard output")
    options.add_argument(
        "--measure", action="store_true", help="print the measurement of this release, for policies, and exit"
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code: 0 stopped, 1 could not serve, 2 wrong options."""
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.measure:
        return _print_measurement()
    if not arguments.relay or not arguments.assistant_token_file:
        options.error("--relay and --assistant-token-file are required")
    if not arguments.unsafe_simulated_tee:
        options.error("no genuine TEE is supported in this version: say --unsafe-simulated-tee to run a simulated one")
    try:
        token = Path(arguments.assistant_token_file).read_text().strip()
    except OSError as error:
        options.error(f"the assistant token file cannot be read: {error.strerror}")
    return asyncio.run(_run(arguments, token))


def _print_measurement() -> int:
    from ai_enclave.engine.weights import PINNED_WEIGHTS_DIGEST
    from ai_enclave.release import measure_release, release_name

    print(json.dumps({"release": release_name(), "measurement": measure_release(PINNED_WEIGHTS_DIGEST).hex()}))  # noqa: T201
    return 0


async def _run(arguments: argparse.Namespace, token: str) -> int:
    # Imported late: torch takes seconds, and --help should not.
    from ai_enclave.engine import EngineError
    from ai_enclave.service import EnclaveSettings, run_enclave
    from messaging.client import ClientError

    settings = EnclaveSettings(relay_url=arguments.relay, ca_file=arguments.ca_file, name=arguments.name, token=token)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(service_id: str) -> None:
        line = json.dumps({"ready": True, "service_id": service_id, "tee": "simulated"})
        print(line if arguments.json_ready else "The assistant is ready. Its TEE is SIMULATED.", flush=True)  # noqa: T201

    try:
        await run_enclave(settings, ready, stop)
    except (ClientError, EngineError) as error:
        return _say(error)
    except ExceptionGroup as errors:
        known, unknown = errors.split((ClientError, EngineError))
        if known is None or unknown is not None:
            raise
        return _say(known.exceptions[0])
    return 0


def _say(error: Exception) -> int:
    print(f"subrosa enclave: {error}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
