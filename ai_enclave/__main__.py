"""``python -m ai_enclave``: the enclave service, as ``subrosa enclave`` starts it."""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_enclave.writers import WriterSettings

DESCRIPTION = """\
Run one assistant: it makes its keys in memory, registers with the relay under NAME, and answers members who opted in.
It writes nothing of anybody to a disk and forgets everything when it stops. Run several under different names, so that one
can be upgraded while another answers; a second one under the same name replaces the first.

With --tee the hardware proves to each client where it runs: AMD SEV-SNP or Intel TDX, with --gpus NVIDIA's GPUs too. It
does not start then on a machine where memory could reach a disk: swap and core dumps have to be off.
With --unsafe-simulated-tee there is no such hardware: clients refuse unless their policy says UnsafeAcceptSimulated.
Do not give it messages then that its operator may not read.

The first SIGTERM (or Ctrl-C) drains it: it takes no new requests, tells the relay's directory, so that clients go to
another assistant, finishes what it accepted, and ends. The second one ends it at once."""

EXAMPLE = """\
example:
  subrosa enclave --relay https://127.0.0.1:8443 --ca-file relay-ca.pem --assistant-token-file assistant.token \\
      --tee linux --gpus

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
        "--name",
        default=environment("SUBROSA_ASSISTANT_NAME", "assistant"),
        help="of the assistant account (default: assistant)",
    )
    options.add_argument(
        "--assistant-token-file",
        metavar="FILE",
        type=Path,
        default=environment("SUBROSA_ASSISTANT_TOKEN_FILE"),
        help="holds the secret that lets an enclave register as an assistant; the relay has the same file",
    )
    hardware = options.add_mutually_exclusive_group()
    hardware.add_argument(
        "--tee",
        choices=["linux", "dstack"],
        help="where the processor's report comes from: Linux 6.7 or later (SEV-SNP, TDX), or dstack's agent (TDX)",
    )
    hardware.add_argument(
        "--unsafe-simulated-tee", action="store_true", help="no hardware: evidence that proves nothing, for development"
    )
    options.add_argument(
        "--certificates",
        metavar="FOLDER",
        type=Path,
        help="the chip's certificates (vcek.der, ask.der, ark.der), if the host does not hand them out",
    )
    options.add_argument("--gpus", action="store_true", help="all NVIDIA GPUs of this machine prove themselves too")
    options.add_argument(
        "--collateral-cache",
        metavar="FOLDER",
        type=Path,
        help="where to keep what AMD, Intel and NVIDIA say about this machine; the enclave fetches it, so that clients need not",
    )
    _add_writer_options(options)
    options.add_argument("--json-ready", action="store_true", help="when ready, print one JSON line on standard output")
    options.add_argument(
        "--measure", action="store_true", help="print the measurement of this release, for policies, and exit"
    )
    return options


def _add_writer_options(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group(
        "an engine that writes",
        "Without one of these the assistant chooses and quotes; with one it also writes, and is checked.",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--weights",
        metavar="FOLDER",
        type=Path,
        help="a Hugging Face directory with safetensors (llama, mistral, qwen2, qwen3)",
    )
    which.add_argument(
        "--sealed-weights", metavar="FOLDER", type=Path, help="the same, made by python -m ai_enclave.engine.seal"
    )
    which.add_argument(
        "--model-server", metavar="URL", help="a server on this machine that speaks OpenAI's protocol, as vLLM does"
    )
    group.add_argument(
        "--unsafe-key-file",
        metavar="FILE",
        type=Path,
        help="the key of sealed weights, for development; refused on hardware",
    )
    group.add_argument(
        "--int8", action="store_true", help="round the weights to 8 bits: half the memory, a little less exact"
    )
    group.add_argument("--model-name", metavar="NAME", help="what the model server calls its model")
    group.add_argument(
        "--model-digest", metavar="HEX", help="the digest of the weights that the model server was started with"
    )


def _writer_settings(options: argparse.ArgumentParser, arguments: argparse.Namespace) -> "WriterSettings | None":
    from ai_enclave.writers import ModelServer, PlainWeights, SealedWeights

    if arguments.sealed_weights and not arguments.unsafe_key_file:
        options.error("--sealed-weights needs its key: --unsafe-key-file FILE, which the simulated TEE alone takes")
    if arguments.unsafe_key_file and (not arguments.sealed_weights or arguments.tee):
        options.error("--unsafe-key-file is for --sealed-weights in the simulated TEE")
    if arguments.model_server and not (arguments.model_name and arguments.model_digest):
        options.error("--model-server needs --model-name and --model-digest")
    if arguments.weights:
        return PlainWeights(arguments.weights, arguments.int8)
    if arguments.sealed_weights:
        return SealedWeights(arguments.sealed_weights, arguments.unsafe_key_file, arguments.int8)
    if arguments.model_server:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", arguments.model_digest):
            options.error("--model-digest is 64 hexadecimal digits")
        return ModelServer(arguments.model_server, arguments.model_name, bytes.fromhex(arguments.model_digest))
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code: 0 stopped, 1 could not serve, 2 wrong options."""
    options = parser()
    arguments = options.parse_args(argv)
    writer = _writer_settings(options, arguments)
    if arguments.measure:
        return _print_measurement(writer)
    if not arguments.relay or not arguments.assistant_token_file:
        options.error("--relay and --assistant-token-file are required")
    if not arguments.tee and not arguments.unsafe_simulated_tee:
        options.error("say which hardware proves where this runs: --tee linux, --tee dstack or --unsafe-simulated-tee")
    try:
        token = Path(arguments.assistant_token_file).read_text().strip()
    except OSError as error:
        options.error(f"the assistant token file cannot be read: {error.strerror}")
    return asyncio.run(_run(arguments, token, writer))


def _print_measurement(writer: "WriterSettings | None") -> int:
    from ai_enclave.engine import EngineError
    from ai_enclave.engine.weights import weights_digest
    from ai_enclave.release import measure_release, release_name
    from ai_enclave.writers import all_weights, measured

    try:
        digest = all_weights(weights_digest(), None if writer is None else measured(writer))
    except EngineError as error:
        print(f"subrosa enclave: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps({"release": release_name(), "measurement": measure_release(digest).hex()}))  # noqa: T201
    return 0


async def _run(arguments: argparse.Namespace, token: str, writer: "WriterSettings | None") -> int:
    # Imported late: torch takes seconds, and --help should not.
    from ai_enclave.engine import EngineError
    from ai_enclave.hardening import NotHardened
    from ai_enclave.service import EnclaveSettings, Stopping, run_enclave
    from ai_enclave.tee import TeeKind, TeeSettings
    from attestation.collecting import CollectionError
    from messaging.client import ClientError

    kind = TeeKind(arguments.tee or TeeKind.SIMULATED)
    settings = EnclaveSettings(
        relay_url=arguments.relay,
        ca_file=arguments.ca_file,
        name=arguments.name,
        token=token,
        tee=TeeSettings(kind, arguments.certificates, arguments.gpus),
        collateral=arguments.collateral_cache,
        writer=writer,
    )
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.tell)

    def ready(service_id: str) -> None:
        line = json.dumps({"ready": True, "service_id": service_id, "tee": str(kind)})
        text = "Its TEE is SIMULATED." if kind is TeeKind.SIMULATED else "The hardware gave evidence."
        print(line if arguments.json_ready else f"The assistant is ready. {text}", flush=True)  # noqa: T201

    try:
        await run_enclave(settings, ready, stopping)
    except (ClientError, EngineError, CollectionError, NotHardened) as error:
        return _say(error)
    except ExceptionGroup as errors:
        known, unknown = errors.split((ClientError, EngineError, CollectionError, NotHardened))
        if known is None or unknown is not None:
            raise
        return _say(one_of(known))
    return 0


def one_of(errors: BaseExceptionGroup[Exception]) -> BaseException:
    """Of errors that happened together, in however many tasks within tasks, one to tell."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(error: BaseException) -> int:
    print(f"subrosa enclave: {error}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
