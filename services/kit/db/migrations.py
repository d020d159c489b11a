"""Schema versions of one service's database, by Alembic.

Each service has its migrations in `store/migrations/`: an `env.py` of two lines that calls `run_env`, and `versions/`.
`migrate` upgrades a database to the newest version. A serving process only checks the version, and names the command to
run when it differs; it never imports Alembic, which would take a tenth of its start-up time and memory.
"""

import re
from pathlib import Path

import sqlalchemy
from psycopg import sql

from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition

_REVISION = re.compile(r'^(down_)?revision(?:: [^=]+)? = "([^"]+)"$', re.MULTILINE)
# Two replicas may migrate at once during a rollout; the second waits for the first on this advisory lock.
_MIGRATION_LOCK = 0x666C797465


def migrate(database_url: str, folder: Path) -> str:
    """Upgrade the database at `database_url` to the newest version in `folder`; return that version."""
    from alembic import command  # noqa: PLC0415  # see the module's docstring
    from alembic.config import Config  # noqa: PLC0415  # same

    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    command.upgrade(config, "head")
    return head(folder)


def run_env(metadata: sqlalchemy.MetaData) -> None:
    """Run the migrations that Alembic has selected; called by each service's `env.py`."""
    from alembic import context  # noqa: PLC0415  # see the module's docstring

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
    """Raise FailedPrecondition with the command to run unless the database is at the newest version."""
    expected = head(folder)
    async with db.read() as connection:
        cursor = await connection.execute(sql.SQL("SELECT to_regclass('alembic_version') IS NOT NULL"))
        row = await cursor.fetchone()
        version = None
        if row is not None and row[0]:
            cursor = await connection.execute(sql.SQL("SELECT version_num FROM alembic_version"))
            version_row = await cursor.fetchone()
            version = version_row[0] if version_row else None
    if version != expected:
        raise FailedPrecondition(
            f"the database is at schema version {version or 'none'}, this release needs {expected}: "
            f"run 'python -m services.{service} migrate'"
        )
