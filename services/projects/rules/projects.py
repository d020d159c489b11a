"""What may be registered as a project, what an update changes, and what is stored.

Lengths are in bytes of UTF-8. Checks run in the order of the code; the first failure wins (projects.md#registerproject,
projects.md#updateproject).
"""

from collections.abc import Iterable

from flyteidl.admin.project_pb2 import Domain, Project, ProjectRegisterRequest

from services.contracts.labels import check_labels, dns_label_faults
from services.kit.errors import AlreadyExists, InvalidArgument, NotFound

MAX_NAME_BYTES = 64
MAX_DESCRIPTION_BYTES = 300


def check_register(request: ProjectRegisterRequest) -> None:
    """Raise InvalidArgument unless `request` may register its project."""
    if not request.HasField("project"):
        raise InvalidArgument("missing project")
    if not request.project.name:
        raise InvalidArgument("missing project_name")
    check_project(request.project)


def check_project(project: Project) -> None:
    """Raise InvalidArgument unless `project` may be stored or update another; its name may be empty."""
    check_id_given(project.id)
    check_labels(project.labels.values)
    _check_id(project.id)
    if len(project.name.encode()) > MAX_NAME_BYTES:
        raise InvalidArgument(f"project_name cannot exceed {MAX_NAME_BYTES} characters")
    if len(project.description.encode()) > MAX_DESCRIPTION_BYTES:
        raise InvalidArgument(f"project_description cannot exceed {MAX_DESCRIPTION_BYTES} characters")
    if project.domains:
        raise InvalidArgument("Domains are currently only set system wide. Please retry without domains included.")


def check_id_given(identifier: str) -> None:
    """Raise InvalidArgument for an empty project id."""
    if not identifier:
        raise InvalidArgument("missing project_id")


def not_found(identifier: str) -> NotFound:
    """Return the error of every lookup that finds no project `identifier`."""
    return NotFound(f"project [{identifier}] not found")


def already_exists() -> AlreadyExists:
    """Return the error of registering an id that is in use, an archived project's included."""
    return AlreadyExists(
        'value with matching already exists (duplicate key value violates unique constraint "projects_pkey")'
    )


def stored_project(project: Project) -> Project:
    """Return what is stored of `project`: neither domains, which are configuration, nor the organisation.

    The state is stored as given, whatever its number. Labels that are present stay present, even empty.
    """
    result = Project(id=project.id, name=project.name, description=project.description, state=project.state)
    if project.HasField("labels"):
        result.labels.CopyFrom(project.labels)
    return result


def updated(current: Project, change: Project) -> Project:
    """Return `current` after `change` (projects.md#updateproject).

    An empty name or description keeps the old one and absent labels keep the old ones, while present labels replace
    them all. An unset state cannot be distinguished from ACTIVE, so ACTIVE is applied only when nothing else changes: a
    new description must not reactivate an archived project, and `flytectl update project --activate` must. The latter
    sends labels that are present and empty.
    """
    result = stored_project(current)
    result.name = change.name or current.name
    result.description = change.description or current.description
    if change.labels.values:
        result.labels.CopyFrom(change.labels)
    if change.state != Project.ACTIVE or result == stored_project(current):
        result.state = change.state
    if change.HasField("labels"):
        result.labels.CopyFrom(change.labels)
    return result


def domains_suffix(domains: Iterable[Domain]) -> bytes:
    """Return bytes to append to a stored project to add `domains`: a repeated field may be anywhere in a message."""
    return Project(domains=domains).SerializeToString()


def seeded(name: str) -> Project:
    """Return the project that seeding registers for `name` (projects.md#seeding)."""
    return Project(id=name, name=name, description=f"{name} description")


def _check_id(identifier: str) -> None:
    # It becomes part of Kubernetes namespaces and label values.
    if reasons := dns_label_faults(identifier):
        raise InvalidArgument(f"invalid project id [{identifier}]: [{' '.join(reasons)}]")
