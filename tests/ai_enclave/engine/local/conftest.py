"""One tiny checkpoint of each architecture, made once."""

import pytest

from tests.ai_enclave.engine.local.checkpoints import ARCHITECTURES, Checkpoint, save_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """By architecture."""
    return {name: save_checkpoint(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def checkpoint(request: pytest.FixtureRequest, checkpoints: dict[str, Checkpoint]) -> Checkpoint:
    """Each of them."""
    return checkpoints[request.param]
