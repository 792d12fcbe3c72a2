"""Weights that only an enclave with their key can read: a folder of sealed files, and the manifest that binds them together.

A sealed folder has one file for each file of the model, under a random name, and ``manifest.sealed``:

    manifest.sealed = magic (8 bytes), salt (16), weights digest (32), then the manifest's chunks
    any other file  = its chunks
    chunk i         = AES-256-GCM of at most 1 MiB, nonce = prefix (7 bytes), i (4, big endian), 1 if it is the last, else 0 (1)

That is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance"): a chunk that was changed, moved, left out or added does not open. Each file has a key and a prefix of its own,
by HKDF (RFC 5869) from the content key, the salt, and what the file is. The manifest holds the name, size, mode, SHA-256 and
random name of each file. What is wrong with the folder is told before a file is read, and what is wrong with a file before a byte
of it is handed out.

The weights digest names the weights: it is that of ``local.files``, over all files here. It is not secret, and does not change when
the same files are sealed again. Not hidden are the number of files and their sizes. Who may have the key is for ``keys``.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO, FileIO
from pathlib import Path, PurePosixPath

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ai_enclave.engine.weights import EngineError

KEY = 32  # bytes
CHUNK = 1024 * 1024  # bytes of plaintext
MANIFEST = "manifest.sealed"
MAX_FILES = 4096
MAX_NAME = 255  # characters
MAX_MANIFEST = 4 * 1024 * 1024  # bytes on the disk
MAX_FILE = 2**31 * CHUNK  # bytes: no counter comes round

_TAG = 16
_MAGIC = b"SRWSEAL1"
_SALT = 16
_DIGEST = 32
_HEADER = len(_MAGIC) + _SALT + _DIGEST
_PREFIX = 7
_ID = re.compile(r"[0-9a-f]{32}")
_READABLE, _EXECUTABLE = 0o444, 0o555  # the modes that there are, whatever the umask was
_MANIFEST_LABEL = b"subrosa sealed weights v1: manifest\x00"
_FILE_LABEL = b"subrosa sealed weights v1: file\x00"

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, as the manifest has it. ``id`` is its name on the disk; ``mode`` is 0o444, or 0o555 if it can be executed."""

    name: str
    size: int
    mode: int
    sha256: str
    id: str = field(repr=False)

    @classmethod
    def read(cls, value: object) -> "Entry":
        """From JSON.

        Raises:
            ValueError: it is not an entry.
        """
        if not isinstance(value, dict) or set(value) != set(cls.__slots__):
            raise ValueError
        entry = cls(**value)
        if [type(member) for member in asdict(entry).values()] != [str, int, int, str, str]:
            raise ValueError
        if not (_is_name(entry.name) and 0 <= entry.size <= MAX_FILE and entry.mode in {_READABLE, _EXECUTABLE}):
            raise ValueError
        if not _ID.fullmatch(entry.id) or not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
            raise ValueError
        return entry


def weights_digest(entries: Sequence[Entry]) -> bytes:
    """32 bytes that name the weights: SHA-256 over one line ``digest size name`` for each file, in the order of the names."""
    lines = (f"{entry.sha256} {entry.size} {entry.name}\n" for entry in sorted(entries, key=lambda entry: entry.name))
    return hashlib.sha256("".join(lines).encode()).digest()


def sealed_digest(folder: Path) -> bytes:
    """The weights digest that a sealed folder claims: says which key to ask for. Opening the folder with that key proves it.

    Raises:
        EngineError: it is not a sealed folder.
    """
    return _Header.of(_read_manifest(folder)).digest


class SealedFiles:
    """A sealed folder, open (a ``Files``): every file is there, none is beside them, and each is read whole and verified."""

    def __init__(self, folder: Path, keys: "_Keys", digest: bytes, entries: Mapping[str, Entry]) -> None:
        self._folder = folder
        self._keys = keys
        self._digest = digest
        self._entries = entries

    @classmethod
    def open(cls, folder: Path, key: bytes) -> "SealedFiles":
        """Read the manifest, and compare the folder with it.

        Args:
            folder: as :func:`seal_files` made it.
            key: the content key, 32 bytes.

        Raises:
            EngineError: the key is another one, or the folder is not as it was sealed.
        """
        manifest = _read_manifest(folder)
        header = _Header.of(manifest)
        keys = _Keys(_check_key(key), header.salt)
        entries = _parse(_open_bytes(keys.manifest_stream(header.digest), memoryview(manifest)[_HEADER:]))
        if not hmac.compare_digest(weights_digest(entries), header.digest):
            raise EngineError("the manifest of the sealed weights does not belong to them: seal them again")
        _compare(folder, entries)
        return cls(folder, keys, header.digest, {entry.name: entry for entry in entries})

    @property
    def weights_digest(self) -> bytes:
        """32 bytes that name the weights."""
        return self._digest

    def names(self) -> list[str]:
        """Of all files, sorted; ``/`` stands between folders."""
        return sorted(self._entries)

    def read(self, name: str) -> bytes:
        """All of one file, verified; it is in memory once.

        Raises:
            EngineError: there is no such file, or it was changed.
        """
        entry = self._entry(name)
        plain = BytesIO()  # whose bytes can be written in place, and given away without a copy
        if entry.size:
            plain.seek(entry.size - 1)
            plain.write(b"\x00")
        with plain.getbuffer() as buffer:
            self._decrypt(entry, lambda start, size: buffer[start : start + size])
        return plain.getvalue()

    def check(self) -> None:
        """Verify every file and keep nothing: reads all of them, at about a gigabyte a second.

        Raises:
            EngineError: one was changed.
        """
        scratch = memoryview(bytearray(CHUNK))
        for entry in self._entries.values():
            self._decrypt(entry, lambda _, size: scratch[:size])

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise EngineError("the sealed weights have no file of this name") from None

    def _decrypt(self, entry: Entry, place: Callable[[int, int], memoryview]) -> None:
        """Decrypt into where ``place`` says for an offset and a size; raises before the end if anything is wrong."""
        stream = self._keys.file_stream(entry.id)
        sealed = memoryview(bytearray(CHUNK + _TAG))
        digest = hashlib.sha256()
        with _opened(self._folder / entry.id) as file:
            for index, (start, size, last) in enumerate(_chunks(entry.size)):
                target = place(start, size)
                stream.open_into(index, _fill(file, sealed[: size + _TAG]), target, last=last)
                digest.update(target)
            if file.read(1):
                raise _Altered
        if not hmac.compare_digest(digest.hexdigest(), entry.sha256):
            raise _Altered


def seal_files(
    files: Mapping[str, Path], target: Path, key: bytes, progress: Progress = lambda _done, _all: None
) -> bytes:
    """Seal files into a new folder.

    Args:
        files: as :func:`find_files` found them; nobody may write to them meanwhile.
        target: must not exist. If anything fails it is removed again.
        key: the content key, 32 bytes.
        progress: is told how many bytes of how many are sealed, after each chunk.

    Returns:
        The weights digest.

    Raises:
        EngineError: ``target`` is there already, or a file cannot be read.
    """
    _check_key(key)
    try:
        target.mkdir(mode=0o755)
    except OSError as error:
        raise EngineError(f"{target} cannot be made: {error.strerror}; choose a name that is not taken") from None
    try:
        return _seal_into(target, files, key, progress)
    except BaseException as error:
        shutil.rmtree(target)  # made above, and without a manifest good for nothing
        if isinstance(error, OSError):
            raise EngineError(f"the weights could not be sealed: {error.strerror}") from None
        raise


def find_files(source: Path) -> dict[str, Path]:
    """The files of a folder and where they are, in the order of their names, which have ``/`` between folders.

    What begins with a dot is left out; links to files are followed, those to folders refused.

    Raises:
        EngineError: there is none, or one that cannot be sealed.
    """
    if not source.is_dir():
        raise EngineError(f"{source} is not a folder")
    found = dict(sorted(_walk(source, source)))
    if not found:
        raise EngineError(f"{source} has no files to seal")
    if len(found) > MAX_FILES:
        raise EngineError(f"{source} has more than {MAX_FILES} files")
    return found


def _walk(source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        name = path.relative_to(source).as_posix()
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(source, path)
        elif path.is_file() and _is_name(name):
            yield name, path
        else:
            raise EngineError(f"{name!r} cannot be sealed: it is no file, leads to none, or has an odd name")


def _seal_into(target: Path, files: Mapping[str, Path], key: bytes, progress: Progress) -> bytes:
    keys = _Keys(key, secrets.token_bytes(_SALT))
    counter = _Counter(progress, sum(path.stat().st_size for path in files.values()))
    entries = [_seal_file(name, path, target, keys, counter) for name, path in files.items()]
    header = _Header(keys.salt, weights_digest(entries))
    content = _encode([asdict(entry) for entry in entries])
    _write(target / MANIFEST, header.encode() + _seal_bytes(keys.manifest_stream(header.digest), content))
    return header.digest


class _Counter:
    """Adds up what is done, and tells."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)


def _seal_file(name: str, path: Path, target: Path, keys: "_Keys", counter: _Counter) -> Entry:
    unique = secrets.token_hex(16)
    stream, digest = keys.file_stream(unique), hashlib.sha256()
    with path.open("rb") as source, (target / unique).open("xb") as sealed:
        status = os.fstat(source.fileno())
        for index, (_, size, last) in enumerate(_chunks(status.st_size)):
            chunk = source.read(size)
            if len(chunk) != size:
                raise EngineError(f"{name!r} became shorter while it was sealed")
            digest.update(chunk)
            sealed.write(stream.seal(index, chunk, last=last))
            counter.add(size)
        if source.read(1):
            raise EngineError(f"{name!r} became longer while it was sealed")
        mode = _EXECUTABLE if status.st_mode & stat.S_IXUSR else _READABLE
        os.fchmod(sealed.fileno(), mode)
    return Entry(name, status.st_size, mode, digest.hexdigest(), unique)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), _READABLE)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one folder; each is for one file only, so that no nonce is used twice."""

    content_key: bytes = field(repr=False)
    salt: bytes

    def file_stream(self, unique: str) -> "_Stream":
        return self._stream(_FILE_LABEL + unique.encode())

    def manifest_stream(self, digest: bytes) -> "_Stream":
        return self._stream(_MANIFEST_LABEL + digest)

    def _stream(self, info: bytes) -> "_Stream":
        derived = HKDF(SHA256(), KEY + _PREFIX, salt=self.salt, info=info).derive(self.content_key)
        return _Stream(AESGCM(derived[:KEY]), derived[KEY:])


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the manifest's chunks. Whoever changes it changes the manifest's key."""

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, manifest: bytes) -> "_Header":
        if not manifest.startswith(_MAGIC) or len(manifest) < _HEADER:
            raise EngineError(f"{MANIFEST} is not the manifest of sealed weights, or of another version")
        salt, digest = manifest[len(_MAGIC) : _HEADER - _DIGEST], manifest[_HEADER - _DIGEST : _HEADER]
        return cls(salt, digest)

    def encode(self) -> bytes:
        return _MAGIC + self.salt + self.digest


class _Stream:
    """STREAM over AES-256-GCM: chunks in one order, and one that is the last."""

    def __init__(self, aead: AESGCM, prefix: bytes) -> None:
        self._aead = aead
        self._prefix = prefix

    def seal(self, index: int, chunk: bytes, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(index, last=last), chunk, None)

    def open_into(self, index: int, sealed: memoryview, target: memoryview, *, last: bool) -> None:
        try:
            self._aead.decrypt_into(self._nonce(index, last=last), sealed, None, target)
        except InvalidTag:
            raise _Altered from None

    def _nonce(self, index: int, *, last: bool) -> bytes:
        return self._prefix + index.to_bytes(4, "big") + bytes([last])


class _Altered(EngineError):
    """A sealed file does not open."""

    def __init__(self) -> None:
        super().__init__(
            "the sealed weights do not open: they were changed, or the key is of others; nothing of them is used"
        )


def _chunks(size: int) -> Iterator[tuple[int, int, bool]]:
    """Offset, size and whether it is the last, of each chunk; a file without bytes has one without bytes."""
    for start in range(0, max(size, 1), CHUNK):
        yield start, min(CHUNK, size - start), start + CHUNK >= size


def _sealed_size(size: int) -> int:
    return size + _TAG * max(1, -(-size // CHUNK))


def _seal_bytes(stream: _Stream, content: bytes) -> bytes:
    parts = enumerate(_chunks(len(content)))
    return b"".join(
        stream.seal(index, content[start : start + size], last=last) for index, (start, size, last) in parts
    )


def _open_bytes(stream: _Stream, sealed: memoryview) -> bytes:
    size = len(sealed) - _TAG * max(1, -(-len(sealed) // (CHUNK + _TAG)))
    if size < 0 or _sealed_size(size) != len(sealed):
        raise _Altered
    plain = bytearray(size)
    for index, (start, length, last) in enumerate(_chunks(size)):
        offset = start + index * _TAG
        stream.open_into(
            index, sealed[offset : offset + length + _TAG], memoryview(plain)[start : start + length], last=last
        )
    return bytes(plain)


def _encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _parse(content: bytes) -> list[Entry]:
    """The entries of a manifest that opened: whoever wrote it had the key, and may still have been another program."""
    try:
        values = json.loads(content)
        if not isinstance(values, list) or not 0 < len(values) <= MAX_FILES:
            raise ValueError  # noqa: TRY301  # told below, with the rest
        entries = [Entry.read(value) for value in values]
    except (ValueError, RecursionError):
        raise EngineError(
            "the manifest of the sealed weights cannot be read by this version: seal them again"
        ) from None
    if len({entry.name for entry in entries}) != len(entries) or len({entry.id for entry in entries}) != len(entries):
        raise EngineError("the manifest of the sealed weights names a file twice: seal them again")
    return entries


def _compare(folder: Path, entries: Sequence[Entry]) -> None:
    """Check that a folder has the files of its manifest and nothing else, in the right size and mode."""
    expected = {entry.id: (_sealed_size(entry.size), entry.mode) for entry in entries}
    with _readable(folder), os.scandir(folder) as found:
        present = {item.name: item.stat(follow_symlinks=False) for item in found if item.name != MANIFEST}
    if missing := len(expected.keys() - present.keys()):
        raise EngineError(f"the sealed weights are incomplete: {missing} of {len(expected)} files are missing")
    if extra := len(present.keys() - expected.keys()):
        raise EngineError(f"beside the sealed weights there is something else ({extra} of it): move it away")
    for unique, status in present.items():
        size, mode = expected[unique]
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise EngineError("a file of the sealed weights was cut, lengthened or replaced: copy them anew")
        _check_mode(status, mode)


def _check_mode(status: os.stat_result, mode: int) -> None:
    if stat.S_IMODE(status.st_mode) != mode:
        raise EngineError(
            "a file of the sealed weights has another mode than it was sealed with: copy them with their modes (cp -p)"
        )


def _read_manifest(folder: Path) -> bytes:
    with _opened(folder / MANIFEST) as file:
        status = os.fstat(file.fileno())
        if status.st_size > MAX_MANIFEST:
            raise EngineError("the manifest of the sealed weights is too large")
        _check_mode(status, _READABLE)
        data = memoryview(bytearray(status.st_size))
        return bytes(_fill(file, data))


@contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    """A regular file and no link to one, for reading; what it does not do at once (a pipe) it does not do."""
    with _readable(path):
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with FileIO(number) as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise EngineError(f"{path.name} of the sealed weights is not a file")
            yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineError(f"{path.name} of the sealed weights cannot be read: {error.strerror}") from None


def _fill(file: FileIO, buffer: memoryview) -> memoryview:
    """``buffer``, full."""
    done = 0
    while done < len(buffer):
        got = file.readinto(buffer[done:])
        if not got:
            raise _Altered
        done += got
    return buffer


def _check_key(key: bytes) -> bytes:
    if len(key) != KEY:
        raise EngineError(f"the key of sealed weights is {KEY} bytes")
    return key


def _is_name(name: str) -> bool:
    """Whether it is a plain relative path that means the same everywhere."""
    parts = PurePosixPath(name).parts
    plain = 0 < len(name) <= MAX_NAME and name.isprintable() and "\\" not in name
    return plain and "/".join(parts) == name and ".." not in parts and not name.startswith("/")
