"""Which engine writes is the operator's choice; whatever it is, its weights are named before anybody gets evidence."""

import hashlib
from pathlib import Path

import pytest

from ai_enclave.engine.interface import WriterKind
from ai_enclave.engine.keys import write_key_file
from ai_enclave.engine.local.files import Folder, VerifiedFiles
from ai_enclave.engine.seal import main as seal
from ai_enclave.engine.weights import EngineError
from ai_enclave.release import measure_release
from ai_enclave.tee import TeeKind, TeeSettings
from ai_enclave.writers import (
    Measured,
    ModelServer,
    PlainWeights,
    SealedWeights,
    WriterSettings,
    all_weights,
    digest_of,
    measured,
    open_writer,
)
from attestation.collecting import Attester
from tests.ai_enclave.engine.local.checkpoints import save_checkpoint

READER = bytes(32)


def attester(writer: Measured) -> Attester:
    return TeeSettings(TeeKind.SIMULATED).attester(measure_release(all_weights(READER, writer)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    save_checkpoint(folder, "qwen3")
    return folder


def test_without_a_writer_the_weights_are_the_readers() -> None:
    assert all_weights(READER, None) == READER
    digests = (bytes(32), bytes([1]) * 32)
    writers = [None, *(Measured(kind, digest) for kind in (WriterKind.LOCAL, WriterKind.SERVER) for digest in digests)]
    assert len({all_weights(reader, writer) for writer in writers for reader in digests}) == 10


def test_the_same_weights_in_another_engine_are_measured_as_others(model: Path) -> None:
    digest = digest_of(PlainWeights(model))
    same: list[WriterSettings] = [
        PlainWeights(model),
        PlainWeights(model, int8=True),
        ModelServer("http://127.0.0.1:1", "m", digest),
    ]
    assert len({all_weights(READER, measured(settings)) for settings in same}) == 3


async def test_weights_in_a_folder_are_loaded_and_named_by_their_files(model: Path) -> None:
    settings = PlainWeights(model)
    writer = await open_writer(settings, attester)
    try:
        assert writer.weights_digest == digest_of(settings) == VerifiedFiles.of(Folder(model)).digest
        assert writer.name.startswith("local/tiny/")
        assert Measured.of(writer) == measured(settings)
    finally:
        await writer.close()


async def test_sealed_weights_are_the_same_and_open_with_their_key_alone(model: Path, tmp_path: Path) -> None:
    sealed, key = tmp_path / "sealed", tmp_path / "key"
    assert seal([str(model), str(sealed), "--key-file", str(key), "--new-key"]) == 0
    settings = SealedWeights(sealed, key)
    assert digest_of(settings) == digest_of(PlainWeights(model))
    writer = await open_writer(settings, attester)
    assert writer.weights_digest == digest_of(settings)
    await writer.close()
    write_key_file(tmp_path / "another")
    with pytest.raises(EngineError):
        await open_writer(SealedWeights(sealed, tmp_path / "another"), attester)


async def test_a_folder_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for settings in (
        PlainWeights(tmp_path),
        PlainWeights(tmp_path / "nowhere"),
        SealedWeights(tmp_path, tmp_path / "key"),
    ):
        with pytest.raises(EngineError):
            digest_of(settings)
        with pytest.raises(EngineError):
            await open_writer(settings, attester)


async def test_a_server_elsewhere_is_refused() -> None:
    digest = hashlib.sha256(b"weights").digest()
    assert digest_of(ModelServer("http://192.0.2.1:8000", "m", digest)) == digest
    with pytest.raises(EngineError):
        await open_writer(ModelServer("http://192.0.2.1:8000", "m", digest), attester)
