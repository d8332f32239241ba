"""Fixtures that start real PostgreSQL clusters.

`cluster` is shared by the session, one per major version: a test takes a database of its own from `database` and leaves
the nodes as it found them. `fresh_cluster` is for tests that break or restart nodes.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from replcheck.lab.cluster import LabCluster
from tests import labs

_numbers = itertools.count(1)

# Property-based tests run the same examples everywhere. How long a busy machine takes over one says nothing of what is
# tested. A test keeps the settings that stood when its module was imported, so they stand here, before any of them;
# --hypothesis-profile explore chooses others.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _UNTIMED, max_examples=2_000)
settings.register_profile("same", _UNTIMED, derandomize=True, max_examples=60)
settings.load_profile("same")

_OLDER_MAJORS_LATER = frozenset(
    (
        "test_base_backups.py",
        "test_cross_check.py",
        "test_damaged_backups.py",
        "test_dumps.py",
        "test_filters.py",
        "test_indexes.py",
        "test_killed_restores.py",
        "test_relation_kinds.py",
        "test_scratch_servers.py",
        "test_seal_dump.py",
        "test_snapshots.py",
    )
)
"""Modules whose tests run against the newest major in `make test`, and against the others in `make test-all`."""


_LATER = (
    "check",
    "cli/test_bad_input.py",
    "cli/test_canary.py",
    "cli/test_watch_command.py",
    "cli/test_watch_screen.py",
    "demo",
    "drill",
    "lab",
    "postgres",
    "selftest",
    "tui/test_real_servers.py",
    "tui/test_speed.py",
    "watch",
)
"""Folders and files whose tests on real servers are long together: they are for the long run, but for `_SOONER`."""
_SOONER = (
    "cli/test_watch_screen.py",
    "drill/test_base_backups.py",
    "drill/test_drill_command.py",
    "drill/test_pgbackrest.py",
    "drill/test_seal_command.py",
    "drill/test_seal_restored.py",
    "postgres/test_facts_latecomers.py",
    "postgres/test_facts_together.py",
    "postgres/test_facts_transactions.py",
    "postgres/test_levels.py",
    "postgres/test_parity.py",
    "postgres/test_statements.py",
    "watch/test_events.py",
)
"""Of these, what is run each time."""


def _is_later(path: Path) -> bool:
    inside = path.relative_to(Path(__file__).parent).as_posix()
    return inside not in _SOONER and any(inside == later or inside.startswith(f"{later}/") for later in _LATER)


def pytest_configure() -> None:
    """Have every command that a test starts end at an interrupt, also where the tests themselves run in the background.

    A shell starts a background process with SIGINT ignored, nohup one with SIGHUP, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that takes a cluster as one that needs PostgreSQL, and those that are for the long run only."""
    for item in items:
        if "clusters_root" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        older = parameters.get("major", labs.majors()[0]) != labs.majors()[0]
        if (older and item.path.name in _OLDER_MAJORS_LATER) or _is_later(item.path):
            item.add_marker("long")


@pytest.fixture(scope="session")
def clusters_root() -> Iterator[Path]:
    """The folder that holds every cluster of the tests; what a killed run left there is removed first."""
    root = labs.clusters_root()
    yield root
    labs.leave(root)


@pytest.fixture(scope="session", params=labs.majors(), ids="pg{}".format)
def major(request: pytest.FixtureRequest) -> int:
    """Each major version whose programs are installed."""
    version: int = request.param
    return version


@pytest.fixture(scope="session")
def newest_major() -> int:
    """The newest major version installed, for tests whose subject does not depend on it."""
    return labs.majors()[0]


@pytest.fixture(scope="session")
def cluster(clusters_root: Path, major: int) -> Iterator[LabCluster]:
    """A primary and two standbys of each major, shared by the session."""
    with LabCluster.create(clusters_root, name=_cluster_name("shared"), major=major) as made:
        yield made


@pytest.fixture
def database(cluster: LabCluster) -> Iterator[str]:
    """An empty database of the shared cluster, the test's own; gone afterwards."""
    name = cluster.create_database(f"test_{next(_numbers)}")
    yield name
    cluster.drop_database(name)


MakeCluster = Callable[..., LabCluster]


@pytest.fixture
def make_cluster(clusters_root: Path) -> Iterator[MakeCluster]:
    """A function that makes clusters of the test's own, with the options of LabCluster.create."""
    with ExitStack() as stack:

        def make(**options: object) -> LabCluster:
            name = _cluster_name("own")
            return stack.enter_context(LabCluster.create(clusters_root, name=name, **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def fresh_cluster(make_cluster: MakeCluster, major: int) -> LabCluster:
    """A primary and two standbys of each major for this test alone, which may break them."""
    return make_cluster(major=major)


def _cluster_name(kind: str) -> str:
    """Return a name that no other test process uses."""
    return f"{kind}_{os.getpid()}_{next(_numbers)}"
