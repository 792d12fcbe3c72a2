"""``subrosa evidence``: ask the machine that this runs on for evidence, and save the answer as a bundle.

For operators, before members rely on a machine: what would it prove, and what is missing? The keys in this evidence are made
for it and thrown away: it speaks for no enclave.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import NO_COLLATERAL, AttestationError, Collateral, EvidenceDocument, KeySection, SimulatedTee
from attestation.binding import NONCE
from attestation.bundle import Bundle
from attestation.collecting import (
    Attester,
    CertificateFolder,
    CollectionError,
    CpuCollector,
    DstackCollector,
    NoDevices,
    NvmlCollector,
    TsmCollector,
)
from attestation.fetching import CachedTransport, FetchError, gather
from messaging.client.vendors import http_transport

DESCRIPTION = """\
Ask this machine where it runs, and save the answer as a bundle for subrosa verify. The keys in it are made for this
question alone, so that it shows what an enclave here could prove, and speaks for none."""

EPILOG = """\
examples:
  subrosa evidence --tee linux --gpus --fetch --output bundle.json
  subrosa evidence --unsafe-simulated-tee --output bundle.json && subrosa verify bundle.json

--fetch asks AMD, Intel and NVIDIA for what they say about this hardware (certificates, revocation, firmware levels,
reference values). AMD and NVIDIA learn from it which chips are asked about, and the network address that asks."""

_NOBODY = "nobody: subrosa evidence"
_ZERO_MEASUREMENT = bytes(48)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="subrosa evidence",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hardware = options.add_mutually_exclusive_group(required=True)
    hardware.add_argument("--tee", choices=["linux", "dstack"], help="where the processor's report comes from")
    hardware.add_argument("--unsafe-simulated-tee", action="store_true", help="no hardware: to try the commands")
    options.add_argument(
        "--certificates", metavar="FOLDER", type=Path, help="the chip's certificates, if kept in files"
    )
    options.add_argument("--gpus", action="store_true", help="ask all NVIDIA GPUs of this machine too")
    options.add_argument("--fetch", action="store_true", help="fetch what the vendors say about this hardware")
    options.add_argument(
        "--cache",
        metavar="FOLDER",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "subrosa" / "collateral",
        help="where fetched answers are kept (default: %(default)s)",
    )
    options.add_argument("--output", metavar="FILE", type=Path, required=True, help="where the bundle is written")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Collect and save; returns the exit code: 0, or 1 if there is no evidence or no collateral."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.fetch:
            arguments.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        bundle = asyncio.run(_bundle(arguments))
        _write(arguments.output, bundle.encode())
    except (CollectionError, FetchError, AttestationError) as error:
        return _say(str(error))
    except OSError as error:
        return _say(f"{error.filename or arguments.output} cannot be written: {error.strerror or 'output failed'}")
    sys.stderr.write(f"subrosa evidence: saved. Judge it with: subrosa verify {arguments.output}\n")
    return 0


async def _bundle(arguments: argparse.Namespace) -> Bundle:
    nonce = secrets.token_bytes(NONCE)
    receipt_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    keys = KeySection(b"\x05" + secrets.token_bytes(32), receipt_key, _NOBODY)
    attester = Attester(_cpu(arguments), NvmlCollector() if arguments.gpus else NoDevices())
    document = await asyncio.to_thread(attester.attest, nonce, keys)
    collateral = await _collateral(document, arguments.cache) if arguments.fetch else NO_COLLATERAL
    return Bundle(nonce, datetime.now(UTC).replace(microsecond=0), document, collateral)


def _cpu(arguments: argparse.Namespace) -> CpuCollector:
    if arguments.unsafe_simulated_tee:
        return SimulatedTee(_ZERO_MEASUREMENT)
    if arguments.tee == "dstack":
        return DstackCollector()
    return TsmCollector(certificates=CertificateFolder(arguments.certificates) if arguments.certificates else None)


async def _collateral(document: bytes, cache: Path) -> Collateral:
    async with http_transport() as transport:
        cached = CachedTransport(transport, cache, partial(datetime.now, UTC))
        return await gather(cached, EvidenceDocument.parse(document))


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing: a half-written bundle would look like a forged one. A device or a pipe is written as it stands."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _say(why: str) -> int:
    sys.stderr.write(f"subrosa evidence: {why.rstrip('.')}.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
