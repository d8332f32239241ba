"""Property-based tests run the same examples everywhere, and are not timed one by one."""

import pytest
from hypothesis import settings

settings.register_profile("core", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=2_000)


def pytest_configure(config: pytest.Config) -> None:
    """Keep to the fixed examples unless another profile is asked for (--hypothesis-profile explore)."""
    if not config.getoption("--hypothesis-profile", default=None):
        settings.load_profile("core")
