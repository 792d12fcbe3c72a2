"""A sealed folder opens as what was sealed, or not at all."""

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.engine import sealed
from ai_enclave.engine.local.files import Files, Folder, VerifiedFiles
from ai_enclave.engine.sealed import (
    CHUNK,
    KEY,
    MANIFEST,
    Entry,
    SealedFiles,
    find_files,
    seal_files,
    sealed_digest,
    weights_digest,
)
from ai_enclave.engine.weights import EngineError

CONTENT_KEY = bytes(range(KEY))
OTHER_KEY = bytes(KEY)
ON_DISK = CHUNK + 16  # a chunk and its tag
FILES = {
    "config.json": b'{"hidden_size": 64}',
    "empty.txt": b"",
    "model.safetensors": b"weights!" * (3 * CHUNK // 8 + 100),
    "other.safetensors": b"WEIGHTS!" * (3 * CHUNK // 8 + 100),
    "original/tokenizer.json": b"{}",
}
names = st.text(
    st.characters(min_codepoint=0x21, exclude_characters="\x7f/\\.", exclude_categories=["C", "Z"]),
    min_size=1,
    max_size=12,
)
sizes = st.sampled_from([0, 1, 15, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@contextmanager
def a_folder() -> Iterator[Path]:
    """A new one for each example."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FILES, sealed; a test copies it before it breaks it."""
    folder = tmp_path_factory.mktemp("sealed")
    seal_files(find_files(write(folder / "plain", FILES)), folder / "sealed", CONTENT_KEY)
    return folder / "sealed"


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def open_all(folder: Path, key: bytes = CONTENT_KEY) -> dict[str, bytes]:
    files = SealedFiles.open(folder, key)
    return {name: bytes(files.read(name)) for name in files.names()}


def on_disk(folder: Path, name: str) -> Path:
    """Where a file of the model lies."""
    entry = SealedFiles.open(folder, CONTENT_KEY)._entries[name]
    return folder / entry.id


def rewrite(path: Path, content: bytes) -> None:
    """Change a file and leave its mode."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)


def test_what_was_sealed_is_read_again(original: Path) -> None:
    assert open_all(original) == FILES
    SealedFiles.open(original, CONTENT_KEY).check()


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(names, st.tuples(sizes, st.binary(min_size=1, max_size=9)), min_size=1, max_size=4))
def test_any_files_come_back(shapes: dict[str, tuple[int, bytes]]) -> None:
    files = {name: (seed * (size // len(seed) + 1))[:size] for name, (size, seed) in shapes.items()}
    with a_folder() as folder:
        digest = seal_files(find_files(write(folder / "plain", files)), folder / "sealed", CONTENT_KEY)
        assert open_all(folder / "sealed") == files
        assert SealedFiles.open(folder / "sealed", CONTENT_KEY).weights_digest == digest


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted([*FILES, MANIFEST])), st.integers(0, 2**40), st.integers(0, 7))
def test_a_flipped_bit_is_refused(original: Path, name: str, where: int, bit: int) -> None:
    with a_folder() as folder:
        copy = Path(shutil.copytree(original, folder / "copy"))
        path = copy / MANIFEST if name == MANIFEST else on_disk(copy, name)
        content = bytearray(path.read_bytes())
        content[where % len(content)] ^= 1 << bit
        rewrite(path, bytes(content))
        with pytest.raises(EngineError):
            open_all(copy)
        with pytest.raises(EngineError):
            SealedFiles.open(copy, CONTENT_KEY).check()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted([*FILES, MANIFEST])), st.integers(1, 2 * CHUNK))
def test_a_file_that_was_cut_is_refused_before_any_is_read(original: Path, name: str, less: int) -> None:
    with a_folder() as folder:
        copy = Path(shutil.copytree(original, folder / "copy"))
        path = copy / MANIFEST if name == MANIFEST else on_disk(copy, name)
        rewrite(path, path.read_bytes()[:-less])
        with pytest.raises(EngineError):
            SealedFiles.open(copy, CONTENT_KEY)


def swap_chunks(copy: Path) -> None:
    path = on_disk(copy, "model.safetensors")
    content = path.read_bytes()
    rewrite(path, content[ON_DISK : 2 * ON_DISK] + content[:ON_DISK] + content[2 * ON_DISK :])


def repeat_chunk(copy: Path) -> None:
    path = on_disk(copy, "model.safetensors")
    content = path.read_bytes()
    rewrite(path, content[:ON_DISK] * 2 + content[2 * ON_DISK :])


def move_chunk_to_another_file(copy: Path) -> None:
    source, target = on_disk(copy, "model.safetensors"), on_disk(copy, "other.safetensors")
    rewrite(target, source.read_bytes()[:ON_DISK] + target.read_bytes()[ON_DISK:])


def swap_files(copy: Path) -> None:
    one, other = on_disk(copy, "model.safetensors"), on_disk(copy, "other.safetensors")
    one.rename(copy / "aside")
    other.rename(one)
    (copy / "aside").rename(other)


@pytest.mark.parametrize("change", [swap_chunks, repeat_chunk, move_chunk_to_another_file, swap_files])
def test_what_was_moved_is_refused_and_what_was_not_is_read(copy: Path, change: Callable[[Path], None]) -> None:
    change(copy)
    files = SealedFiles.open(copy, CONTENT_KEY)
    assert bytes(files.read("config.json")) == FILES["config.json"]
    with pytest.raises(EngineError, match="changed"):
        bytes(files.read("model.safetensors")) + bytes(files.read("other.safetensors"))
    with pytest.raises(EngineError, match="changed"):
        files.check()


def test_a_file_of_another_folder_under_the_same_key_is_refused(copy: Path, tmp_path: Path) -> None:
    seal_files(find_files(write(tmp_path / "plain", FILES)), tmp_path / "again", CONTENT_KEY)
    rewrite(on_disk(copy, "config.json"), on_disk(tmp_path / "again", "config.json").read_bytes())
    with pytest.raises(EngineError, match="changed"):
        open_all(copy)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0, 1, CHUNK, CHUNK + 1, 3 * CHUNK]), st.data())
def test_a_stream_has_one_end(size: int, data: st.DataObject) -> None:
    """Also where nothing else says how long it is, as with the manifest."""
    stream = sealed._Keys(CONTENT_KEY, bytes(16)).file_stream("0" * 32)
    content = sealed._seal_bytes(stream, bytes(size))
    assert sealed._open_bytes(stream, memoryview(content)) == bytes(size)
    cut = data.draw(st.sampled_from([*range(0, len(content), ON_DISK), max(0, len(content) - 1)]))
    for changed in (content[:cut], content + content[:16], content + bytes(1), content + content):
        with pytest.raises(EngineError, match="changed"):
            sealed._open_bytes(stream, memoryview(changed))


def remove_one(copy: Path) -> None:
    on_disk(copy, "config.json").unlink()


def add_one(copy: Path) -> None:
    (copy / "0123456789abcdef0123456789abcdef").write_bytes(b"extra")


def add_folder(copy: Path) -> None:
    (copy / "extra").mkdir()


def remove_manifest(copy: Path) -> None:
    (copy / MANIFEST).unlink()


def replace_by_link(copy: Path) -> None:
    path = on_disk(copy, "config.json")
    path.rename(copy.parent / "elsewhere")
    path.symlink_to(copy.parent / "elsewhere")


def replace_by_pipe(copy: Path) -> None:
    path = on_disk(copy, "config.json")
    path.unlink()
    os.mkfifo(path, 0o444)


def manifest_by_pipe(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    os.mkfifo(copy / MANIFEST, 0o444)


def manifest_by_link(copy: Path) -> None:
    (copy / MANIFEST).rename(copy.parent / MANIFEST)
    (copy / MANIFEST).symlink_to(copy.parent / MANIFEST)


def lengthen(copy: Path) -> None:
    path = on_disk(copy, "config.json")
    rewrite(path, path.read_bytes() + b"!")


def writable(copy: Path) -> None:
    on_disk(copy, "model.safetensors").chmod(0o644)


def executable(copy: Path) -> None:
    on_disk(copy, "model.safetensors").chmod(0o555)


def writable_manifest(copy: Path) -> None:
    (copy / MANIFEST).chmod(0o666)


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (remove_one, "1 of 5 files are missing"),
    (add_one, "something else"),
    (add_folder, "something else"),
    (remove_manifest, "cannot be read"),
    (replace_by_link, "cut, lengthened or replaced"),
    (replace_by_pipe, "cut, lengthened or replaced"),
    (manifest_by_pipe, "not a file"),
    (manifest_by_link, "cannot be read"),
    (lengthen, "cut, lengthened or replaced"),
    (writable, "another mode"),
    (executable, "another mode"),
    (writable_manifest, "another mode"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_folder_that_is_not_as_it_was_sealed_is_not_opened(
    copy: Path, change: Callable[[Path], None], words: str
) -> None:
    change(copy)
    with pytest.raises(EngineError, match=words):
        SealedFiles.open(copy, CONTENT_KEY)


def test_a_file_that_changes_after_it_was_opened_is_refused(copy: Path) -> None:
    files, path = SealedFiles.open(copy, CONTENT_KEY), on_disk(copy, "model.safetensors")
    content = path.read_bytes()
    for changed in (content + b"!", content[:-1], content[:ON_DISK]):
        rewrite(path, changed)
        with pytest.raises(EngineError, match="changed"):
            files.read("model.safetensors")


@pytest.mark.parametrize("key", [OTHER_KEY, b"short", b""])
def test_another_key_opens_nothing(original: Path, key: bytes) -> None:
    with pytest.raises(EngineError):
        SealedFiles.open(original, key)


def test_the_digest_names_the_weights_and_not_their_sealing(original: Path, tmp_path: Path) -> None:
    write(tmp_path / "plain", FILES)
    again = seal_files(find_files(tmp_path / "plain"), tmp_path / "again", OTHER_KEY)
    assert again == sealed_digest(original) == SealedFiles.open(original, CONTENT_KEY).weights_digest
    (tmp_path / "plain/empty.txt").rename(tmp_path / "plain/void.txt")
    renamed = seal_files(find_files(tmp_path / "plain"), tmp_path / "renamed", OTHER_KEY)
    (tmp_path / "plain/void.txt").write_text("1")
    changed = seal_files(find_files(tmp_path / "plain"), tmp_path / "changed", OTHER_KEY)
    assert len({again, renamed, changed}) == 3


def test_the_digest_is_the_one_that_the_local_engine_reports(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"x"}
    digest = seal_files(find_files(write(tmp_path / "plain", files)), tmp_path / "sealed", CONTENT_KEY)
    opened: Files = SealedFiles.open(tmp_path / "sealed", CONTENT_KEY)
    assert VerifiedFiles.of(opened).digest == digest == VerifiedFiles.of(Folder(tmp_path / "plain")).digest


def test_an_executable_file_stays_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", {"run": b"1"})
    (plain / "run").chmod(0o740)
    seal_files(find_files(plain), tmp_path / "sealed", CONTENT_KEY)
    assert on_disk(tmp_path / "sealed", "run").stat().st_mode & 0o777 == 0o555


def test_the_umask_of_whoever_seals_does_not_change_the_digest(original: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        digest = seal_files(find_files(write(tmp_path / "plain", FILES)), tmp_path / "sealed", CONTENT_KEY)
    finally:
        os.umask(before)
    assert digest == sealed_digest(original)


def test_a_claimed_digest_that_is_not_of_the_weights_opens_nothing(copy: Path) -> None:
    manifest = bytearray((copy / MANIFEST).read_bytes())
    manifest[24:56] = bytes(32)
    rewrite(copy / MANIFEST, bytes(manifest))
    assert sealed_digest(copy) == bytes(32)
    with pytest.raises(EngineError, match="do not open"):
        SealedFiles.open(copy, CONTENT_KEY)


def test_neither_names_nor_contents_are_on_the_disk(original: Path) -> None:
    stored = b"".join(path.name.encode() + path.read_bytes() for path in original.iterdir())
    for secret in (b"config", b"safetensors", b"original", b"weights!", b"hidden_size"):
        assert secret not in stored
    assert len(list(original.iterdir())) == len(FILES) + 1


def test_the_same_files_never_look_the_same(original: Path, tmp_path: Path) -> None:
    seal_files(find_files(write(tmp_path / "plain", FILES)), tmp_path / "again", CONTENT_KEY)
    for name in FILES:
        assert on_disk(original, name).read_bytes() != on_disk(tmp_path / "again", name).read_bytes()


def test_no_two_files_share_a_key_and_no_two_folders_either(tmp_path: Path) -> None:
    same = {"a": b"the same", "b": b"the same"}
    seal_files(find_files(write(tmp_path / "plain", same)), tmp_path / "sealed", CONTENT_KEY)
    assert on_disk(tmp_path / "sealed", "a").read_bytes() != on_disk(tmp_path / "sealed", "b").read_bytes()
    folders = [sealed._Keys(CONTENT_KEY, salt) for salt in (bytes(16), b"1" * 16)]
    streams = [stream for keys in folders for stream in (keys.manifest_stream(b"1"), keys.file_stream("1"))]
    assert len({stream.seal(0, b"the same", last=True) for stream in streams}) == len(streams)


def test_a_file_is_in_memory_once(tmp_path: Path) -> None:
    size = 24 * CHUNK
    seal_files(find_files(write(tmp_path / "plain", {"model": bytes(size)})), tmp_path / "sealed", CONTENT_KEY)
    files = SealedFiles.open(tmp_path / "sealed", CONTENT_KEY)
    tracemalloc.start()
    try:
        assert len(files.read("model")) == size
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        files.check()
        checking = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reading < size + 3 * CHUNK
    assert checking < 4 * CHUNK


def test_an_unknown_name_is_refused_and_not_told_back(original: Path) -> None:
    with pytest.raises(EngineError, match="no file of this name") as caught:
        SealedFiles.open(original, CONTENT_KEY).read("../secret")
    assert "secret" not in str(caught.value)


def test_what_begins_with_a_dot_is_left_out_and_links_to_files_are_followed(tmp_path: Path) -> None:
    write(tmp_path, {"blobs/1": b"linked", "plain/.cache/x": b"1", "plain/.gitattributes": b"2", "plain/a": b"3"})
    (tmp_path / "plain/b").symlink_to("../blobs/1")
    seal_files(find_files(tmp_path / "plain"), tmp_path / "sealed", CONTENT_KEY)
    assert open_all(tmp_path / "sealed") == {"a": b"3", "b": b"linked"}


@pytest.mark.parametrize("trouble", ["empty", "missing", "link to a folder", "broken link", "pipe", "odd name"])
def test_what_cannot_be_sealed_leaves_nothing_behind(tmp_path: Path, trouble: str) -> None:
    plain = tmp_path / "plain"
    match trouble:
        case "empty":
            plain.mkdir()
        case "link to a folder":
            (write(plain, FILES) / "more").symlink_to(tmp_path)
        case "broken link":
            (write(plain, FILES) / "more").symlink_to("nowhere")
        case "pipe":
            os.mkfifo(write(plain, FILES) / "more")
        case "odd name":
            write(plain, {"two\nlines": b""})
    with pytest.raises(EngineError):
        seal_files(find_files(plain), tmp_path / "sealed", CONTENT_KEY)
    assert not (tmp_path / "sealed").exists()


def test_sealing_that_fails_midway_removes_what_it_made(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", FILES)

    def shorten(done: int, total: int) -> None:
        if done > CHUNK:
            os.truncate(plain / "model.safetensors", CHUNK)

    with pytest.raises(EngineError, match="shorter"):
        seal_files(find_files(plain), tmp_path / "sealed", CONTENT_KEY, shorten)
    assert not (tmp_path / "sealed").exists()


def test_a_file_that_grows_while_it_is_sealed_is_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", FILES)

    def lengthen(done: int, total: int) -> None:
        os.truncate(plain / "model.safetensors", 4 * CHUNK)

    with pytest.raises(EngineError, match="longer"):
        seal_files({"model": plain / "model.safetensors"}, tmp_path / "sealed", CONTENT_KEY, lengthen)
    assert not (tmp_path / "sealed").exists()


def test_a_file_that_cannot_be_read_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could not be sealed"):
        seal_files({"gone": tmp_path / "gone"}, tmp_path / "sealed", CONTENT_KEY)
    assert not (tmp_path / "sealed").exists()


def test_there_is_an_end_to_the_number_of_files(tmp_path: Path) -> None:
    for number in range(sealed.MAX_FILES + 1):
        (tmp_path / f"{number}").touch()
    with pytest.raises(EngineError, match="more than"):
        find_files(tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path, {"plain/a": b"1", "sealed/precious": b"2"})
    with pytest.raises(EngineError, match="not taken"):
        seal_files(find_files(tmp_path / "plain"), tmp_path / "sealed", CONTENT_KEY)
    assert (tmp_path / "sealed/precious").read_bytes() == b"2"


def test_progress_ends_with_everything(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    seal_files(
        find_files(write(tmp_path / "plain", FILES)), tmp_path / "sealed", CONTENT_KEY, lambda *step: told.append(step)
    )
    total = sum(map(len, FILES.values()))
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_a_file_that_is_not_what_the_manifest_says_is_refused_whoever_sealed_it(copy: Path) -> None:
    """Else who has the key could show one digest and run other weights."""
    path, salt = on_disk(copy, "config.json"), (copy / MANIFEST).read_bytes()[8:24]
    stream = sealed._Keys(CONTENT_KEY, salt).file_stream(path.name)
    rewrite(path, sealed._seal_bytes(stream, b'{"hidden_size": 65}'))
    with pytest.raises(EngineError, match="changed"):
        SealedFiles.open(copy, CONTENT_KEY).read("config.json")


def test_a_manifest_beyond_measure_is_not_read(copy: Path) -> None:
    rewrite(copy / MANIFEST, b"")
    os.truncate(copy / MANIFEST, 2**40)
    with pytest.raises(EngineError, match="too large"):
        SealedFiles.open(copy, CONTENT_KEY)


GOOD = {"name": "a", "size": 0, "mode": 0o444, "sha256": "0" * 64, "id": "1" * 32}
BAD: list[object] = [
    [],
    {},
    [[]],
    [GOOD, GOOD],
    [GOOD, {**GOOD, "name": "b"}],
    [GOOD, {**GOOD, "id": "2" * 32}],
    [{**GOOD, "more": 1}],
    [{**GOOD, "size": -1}],
    [{**GOOD, "size": True}],
    [{**GOOD, "size": 2**60}],
    [{**GOOD, "mode": 0o4555}],
    [{**GOOD, "sha256": "0" * 63 + "G"}],
    [{**GOOD, "id": "../../../../../../../etc/passwd0"}],
    *(
        [{**GOOD, "name": name}]
        for name in ("", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\x00", "a" * 256)
    ),
]


@pytest.mark.parametrize("manifest", BAD)
def test_a_manifest_that_makes_no_sense_is_refused_even_under_the_right_key(tmp_path: Path, manifest: object) -> None:
    keys, digest = sealed._Keys(CONTENT_KEY, bytes(16)), bytes(32)
    chunks = sealed._seal_bytes(keys.manifest_stream(digest), sealed._encode(manifest))
    sealed._write(tmp_path / MANIFEST, sealed._Header(keys.salt, digest).encode() + chunks)
    with pytest.raises(EngineError, match="seal them again"):
        SealedFiles.open(tmp_path, CONTENT_KEY)


def test_a_manifest_whose_digest_is_not_of_its_files_is_refused(tmp_path: Path) -> None:
    entry = Entry("a", 0, 0o444, "0" * 64, "1" * 32)
    assert weights_digest([entry]) == weights_digest([Entry("a", 0, 0o444, "0" * 64, "2" * 32)]) != bytes(32)
    keys = sealed._Keys(CONTENT_KEY, bytes(16))
    chunks = sealed._seal_bytes(keys.manifest_stream(bytes(32)), sealed._encode([GOOD]))
    sealed._write(tmp_path / MANIFEST, sealed._Header(keys.salt, bytes(32)).encode() + chunks)
    with pytest.raises(EngineError, match="does not belong"):
        SealedFiles.open(tmp_path, CONTENT_KEY)


@pytest.mark.parametrize("content", [b"", b"SRWSEAL1", b"SRWSEAL2" + bytes(100), b"SRWSEAL1" + bytes(60)])
def test_what_is_no_manifest_is_not_opened(tmp_path: Path, content: bytes) -> None:
    sealed._write(tmp_path / MANIFEST, content)
    with pytest.raises(EngineError):
        SealedFiles.open(tmp_path, CONTENT_KEY)
