"""What cluster resources are made of: templates and values in files, projects and attributes in the database."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flyteidl.admin.matchable_resource_pb2 import CLUSTER_RESOURCE, MatchableAttributesConfiguration

from services.contracts.projects import namespace_of
from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition
from services.projects.config import Settings, TemplateValue
from services.projects.rules.cluster_resources.values import ClusterResourceAttributes, Values, values_of
from services.projects.rules.cluster_resources.yaml_templates import Template
from services.projects.store import attributes
from services.projects.store import projects as store


@dataclass(frozen=True)
class WantedResources:
    """The templates, in order, and the values of each project-domain, those of the newest project first."""

    templates: Sequence[Template]
    values: Sequence[Values]


class ClusterResourceSource:
    """Reads everything anew each time: files may be mounted ConfigMaps, which change while the process runs."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings

    async def read(self) -> WantedResources:
        """Return the resources of all projects that are not archived.

        Raises:
            FailedPrecondition: A file or variable cannot be read.
            ServiceError: The database cannot be read.
        """
        templates, configured = await asyncio.to_thread(self._read_files)
        async with self._db.read() as connection:
            projects = await store.unarchived(connection)
            rows = await attributes.of_kind(connection, CLUSTER_RESOURCE)
        of_scopes = ClusterResourceAttributes(list(map(MatchableAttributesConfiguration.FromString, rows)))
        return WantedResources(
            templates,
            [
                values_of(
                    project,
                    domain,
                    namespace_of(self._settings.namespace_template, project, domain),
                    attributes=of_scopes.of(project, domain),
                    settings=values,
                )
                for project in projects
                for domain, values in configured.items()
            ],
        )

    def _read_files(self) -> tuple[list[Template], dict[str, Mapping[str, str]]]:
        """Return the templates, and the values of each domain."""
        settings = self._settings
        try:
            for_all = {key: _read_value(value) for key, value in settings.cluster_resource_values.items()}
            values: dict[str, Mapping[str, str]] = {
                domain.id: for_all | {key: _read_value(value) for key, value in of_domain.items()}
                for domain in settings.domains
                for of_domain in (settings.cluster_resource_domain_values.get(domain.id, {}),)
            }
            return _read_templates(settings.cluster_resource_templates), values
        except OSError as error:
            raise FailedPrecondition(f"{error.filename}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise FailedPrecondition("a template or value is not UTF-8") from error


def _read_templates(folder: Path | None) -> list[Template]:
    files = sorted(folder.glob("*.yaml")) if folder else []
    return [Template(file.name, file.read_text(encoding="utf-8")) for file in files]


def _read_value(value: TemplateValue) -> str:
    if value.env is not None:
        if value.env not in os.environ:
            raise FailedPrecondition(f"the environment has no variable {value.env}, which a value of templates names")
        return os.environ[value.env]
    # Editors end files with a line end, which is not part of the value.
    return value.file.read_text(encoding="utf-8").removesuffix("\n") if value.file else value.value
