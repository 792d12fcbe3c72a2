from pathlib import Path

import pytest

from attestation.collecting.errors import OversizedAnswer
from attestation.collecting.files import read_bounded


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_up_to_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert read_bounded(tmp_path / "file", 100) == b"x" * size


def test_a_file_of_many_chunks_is_read_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    assert read_bounded(tmp_path / "file", len(content)) == content


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(101))
    with pytest.raises(OversizedAnswer, match="100"):
        read_bounded(tmp_path / "file", 100)


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(OversizedAnswer):
        read_bounded(Path("/dev/zero"), 1_000_000)
