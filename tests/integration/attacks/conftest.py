"""A sandbox that the attack tests share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.sandbox import Sandbox, running_sandbox


@pytest.fixture(scope="package")
def attacked() -> Iterator[Sandbox]:
    """A running sandbox that attack tests share; each must leave it working."""
    # A short path of its own: PostgreSQL's socket must fit into 107 characters.
    with (
        TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder,
        running_sandbox(Path(folder)) as made,
    ):
        yield made
