"""Property-based tests run the same examples everywhere, and are not timed one by one."""

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes to draw examples says nothing of what is tested.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("core", _UNTIMED, derandomize=True, max_examples=60)
settings.register_profile("explore", _UNTIMED, max_examples=2_000)


def pytest_configure(config: pytest.Config) -> None:
    """Keep to the fixed examples unless another profile is asked for (--hypothesis-profile explore)."""
    if not config.getoption("--hypothesis-profile", default=None):
        settings.load_profile("core")
