"""`python -m services.projects` serves; `--help` names its other commands."""

from pathlib import Path

from services.kit.audit.command import audit_command
from services.kit.db.repair import command
from services.kit.process.service import main
from services.projects.app import NAME, build
from services.projects.commands.cluster_resources import CLUSTER_RESOURCES
from services.projects.config import Settings
from services.projects.store.stored_messages import STORED

main(
    NAME,
    Settings,
    build,
    Path(__file__).parent / "store" / "migrations",
    {"audit": audit_command(NAME), "repair": command(NAME, STORED), "cluster-resources": CLUSTER_RESOURCES},
)
