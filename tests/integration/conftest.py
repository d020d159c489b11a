"""What integration tests share: one PostgreSQL and one NATS for the whole session, on free ports."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.parts import Parts, running_parts


@pytest.fixture(scope="session")
def parts() -> Iterator[Parts]:
    """Real PostgreSQL and NATS."""
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder, running_parts(Path(folder)) as running:
        yield running
