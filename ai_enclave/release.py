"""What this enclave runs, as one measurement: its code and the digest of its weights.

In a real TEE the firmware measures the image before it starts. The simulated TEE has only this: the files themselves.
"""

from importlib.metadata import version
from pathlib import Path

from attestation import measure

_PACKAGE = Path(__file__).parent


def release_name() -> str:
    """The running version, as the evidence names it."""
    return f"subrosa-enclave {version('subrosa')}"


def measure_release(weights_digest: bytes) -> bytes:
    """48 bytes over every source file of this package and the digest of the weights.

    A client with the same release in hand calls this too, to get the reference value that it accepts.
    """
    files = {str(path.relative_to(_PACKAGE).as_posix()): path.read_bytes() for path in _PACKAGE.rglob("*.py")}
    return measure({**files, "weights": weights_digest})
