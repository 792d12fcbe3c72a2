"""What the tests of faults share."""

import os
import random

import pytest


@pytest.fixture
def dice() -> random.Random:
    """The choice of faults."""
    seed = int(os.environ.get("SUBROSA_FAULTS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"SUBROSA_FAULTS_SEED={seed}")  # noqa: T201 - whoever reads of a failure wants to repeat it
    return random.Random(seed)  # noqa: S311 - no secret
