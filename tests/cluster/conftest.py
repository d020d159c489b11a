"""Fixtures of tests on real API servers: PostgreSQL, NATS, and one or two API servers for the session."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.cluster_binaries import NoGo, binaries
from tests.support.flyte_workflows import FLYTE_WORKFLOWS
from tests.support.parts import Parts, running_parts
from tests.support.real_api_servers import RealApiServer, real_api_server


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Provide a short path: PostgreSQL's socket must fit into 107 characters."""
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


@pytest.fixture(scope="session")
def parts(folder: Path) -> Iterator[Parts]:
    """Real PostgreSQL and NATS."""
    with running_parts(folder) as running:
        yield running


@pytest.fixture(scope="session")
def api_server(folder: Path) -> Iterator[RealApiServer]:
    """Run a real API server that has the definition of FlyteWorkflow."""
    yield from _with_definition(folder / "api")


@pytest.fixture(scope="session")
def other_api_server(folder: Path) -> Iterator[RealApiServer]:
    """Run a second one."""
    yield from _with_definition(folder / "other")


def _with_definition(folder: Path) -> Iterator[RealApiServer]:
    try:
        binaries()
    except NoGo as missing:
        pytest.skip(str(missing))
    with real_api_server(folder) as running:
        running.install(FLYTE_WORKFLOWS)
        running.wait_for("/apis/flyte.lyft.com/v1alpha1/flyteworkflows")
        yield running
