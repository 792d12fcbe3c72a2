"""``python -m ai_enclave.engine.seal``: make a folder of sealed weights out of a model."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ai_enclave.engine.keys import read_key_file, write_key_file
from ai_enclave.engine.local.files import used_names
from ai_enclave.engine.sealed import find_files, seal_files
from ai_enclave.engine.weights import EngineError

DESCRIPTION = """\
Seal the weights in DIR, so that only an enclave with their key can read them. OUT is a new folder that can lie on any
disk or registry: whoever copies it learns how many files there are and how large they are, and whoever changes it is
noticed before anything of it is used. DIR is a model as Hugging Face lays it out, and is left as it is. Sealed are the
files that the enclave's own engine uses: config.json, generation_config.json, tokenizer.json and *.safetensors. For a
model server say --all-files; those that begin with a dot are left out all the same, and links to files are followed.

The key is 32 random bytes in a text file that only you can read. Who has it has the weights: keep it where your key
provider runs, which gives it to an enclave that has proved what it is, and away from OUT.

The line "weights digest" names these weights exactly. It stands in receipts, it is not secret, and the same files give
the same digest, whoever seals them and with whatever key."""

EXAMPLES = """\
examples:
  python -m ai_enclave.engine.seal models/qwen3-8b sealed/qwen3-8b --key-file qwen3-8b.key --new-key
      the first time: makes the key too
  python -m ai_enclave.engine.seal models/qwen3-8b-v2 sealed/qwen3-8b-v2 --key-file qwen3-8b.key
      later weights under the same key

Nothing is overwritten: if OUT or a new key file exists, it stops. If it is interrupted it removes what it made; if it is
killed OUT has no manifest, cannot be opened, and can be deleted."""

FIRST_TELL_SECONDS = 0.3  # nothing is said of work that is shorter
TELL_SECONDS = 2.0  # between two lines about progress


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m ai_enclave.engine.seal",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("source", metavar="DIR", type=Path, help="the model")
    options.add_argument("target", metavar="OUT", type=Path, help="where the sealed weights go; must not exist")
    options.add_argument(
        "--key-file", metavar="FILE", type=Path, required=True, help="holds the key: 64 hexadecimal digits"
    )
    options.add_argument("--all-files", action="store_true", help="seal every file of DIR, and those of its folders")
    options.add_argument("--new-key", action="store_true", help="make the key, and FILE; FILE must not exist")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Seal; returns the exit code: 0 sealed, 1 not sealed, 2 wrong options, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        return _seal(chosen(arguments.source, every=arguments.all_files), arguments)
    except EngineError as error:
        _tell(f"not sealed: {error}")
        return 1
    except KeyboardInterrupt:
        _tell("interrupted; what was made is removed")
        return 130


def chosen(source: Path, *, every: bool) -> dict[str, Path]:
    """What of a folder is sealed.

    Raises:
        EngineError: it is no model that the enclave's engine could use, or holds what cannot be sealed.
    """
    files = find_files(source)
    return files if every else {name: files[name] for name in used_names(list(files))}


def _seal(files: Mapping[str, Path], arguments: argparse.Namespace) -> int:
    key_file, new_key = arguments.key_file, arguments.new_key
    key = write_key_file(key_file) if new_key else read_key_file(key_file)
    try:
        digest = seal_files(files, arguments.target, key, Progress(_tell, time.monotonic))
    except BaseException:
        if new_key:
            key_file.unlink()  # nothing was ever sealed with it
        raise
    counted = "1 file" if len(files) == 1 else f"{len(files)} files"
    print(f"Sealed {counted} into {arguments.target}.\nweights digest: {digest.hex()}")  # noqa: T201
    return 0


class Progress:
    """Says how far it is, every few seconds."""

    def __init__(self, tell: Callable[[str], None], now: Callable[[], float]) -> None:
        self._tell = tell
        self._now = now
        self._next = now() + FIRST_TELL_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """``done`` bytes of ``total``."""
        if self._now() >= self._next:
            self._next = self._now() + TELL_SECONDS
            self._tell(f"{100 * done // max(total, 1):3} %, {done / 1e9:.1f} of {total / 1e9:.1f} GB")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
