"""Schema versions of one service's database, by Alembic.

Each service has its migrations in `store/migrations/`: an `env.py` of two lines that calls `run_env`, and `versions/`.
`migrate` upgrades a database to the newest version. A serving process only checks the version, and names the command to
run when it is older; it never imports Alembic, which would take a tenth of its start-up time and memory. SQLAlchemy
takes as much, so a service without lists does not import that either.

A newer version than the release's own is accepted: migrations keep working for the release before, which still runs
while an upgrade is rolled out, and runs again after a rollback.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition

if TYPE_CHECKING:
    from sqlalchemy import MetaData

log = logging.getLogger(__name__)

_REVISION = re.compile(r'^(down_)?revision(?:: [^=]+)? = "([^"]+)"$', re.MULTILINE)
# Two replicas may migrate at once during a rollout; the second waits for the first on this advisory lock.
_MIGRATION_LOCK = 0x666C797465
_HAS_VERSION = sql.SQL("SELECT to_regclass('alembic_version') IS NOT NULL")
_VERSION = sql.SQL("SELECT version_num FROM alembic_version")


def migrate(database_url: str, folder: Path) -> str:
    """Upgrade the database at `database_url` to the newest version in `folder`; return its version then.

    A database that a newer release has upgraded stays as it is.
    """
    newest = head(folder)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(_HAS_VERSION).fetchone()
        version = connection.execute(_VERSION).fetchone() if row and row[0] else None
    if version and version[0] > newest:
        return str(version[0])
    from alembic import command  # noqa: PLC0415  # see the module's docstring
    from alembic.config import Config  # noqa: PLC0415  # same

    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    command.upgrade(config, "head")
    return newest


def run_env(metadata: "MetaData") -> None:
    """Run the migrations that Alembic has selected; called by each service's `env.py`."""
    import sqlalchemy  # noqa: PLC0415  # see the module's docstring
    from alembic import context  # noqa: PLC0415  # same

    url = context.config.attributes["database_url"].replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


def head(folder: Path) -> str:
    """Return the newest version in `folder`: the one that is no other's parent.

    It is read from the text of the files, without Alembic.
    """
    revisions: set[str] = set()
    parents: set[str] = set()
    for file in (folder / "versions").glob("*.py"):
        for is_parent, name in _REVISION.findall(file.read_text()):
            (parents if is_parent else revisions).add(name)
    (newest,) = revisions - parents
    return newest


async def check_schema(db: Database, folder: Path, service: str) -> None:
    """Raise FailedPrecondition with the command to run when the database is older than the newest version.

    Versions are numbers of the same length, so their order is that of text.
    """
    expected = head(folder)
    async with db.read() as connection:
        row = await (await connection.execute(_HAS_VERSION)).fetchone()
        version_row = await (await connection.execute(_VERSION)).fetchone() if row and row[0] else None
    version = version_row[0] if version_row else None
    if version is None or version < expected:
        raise FailedPrecondition(
            f"the database is at schema version {version or 'none'}, this release needs {expected}: "
            f"run 'python -m services.{service} migrate'"
        )
    if version > expected:
        log.warning("a newer release has upgraded the database", extra={"version": version, "expected": expected})
