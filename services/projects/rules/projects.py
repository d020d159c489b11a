"""What may be registered as a project, what an update makes of one, and what is kept of either.

Lengths are in bytes of UTF-8. Checks run in the order in which they stand; the first failure wins (projects.md 4, 5).
"""

from collections.abc import Iterable

from flyteidl.admin.project_pb2 import Domain, Project, ProjectRegisterRequest

from services.contracts.labels import check_labels, dns_label_faults
from services.kit.errors import AlreadyExists, InvalidArgument, NotFound

MAX_NAME_BYTES = 64
MAX_DESCRIPTION_BYTES = 300


def check_register(request: ProjectRegisterRequest) -> None:
    """Raise InvalidArgument unless `request` may register its project (projects.md 4)."""
    if not request.HasField("project"):
        raise InvalidArgument("missing project")
    if not request.project.name:
        raise InvalidArgument("missing project_name")
    check_project(request.project)


def check_project(project: Project) -> None:
    """Raise InvalidArgument unless `project` may be kept or update another; its name may be empty (projects.md 5)."""
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
    """Raise InvalidArgument for an empty project id (projects.md 6)."""
    if not identifier:
        raise InvalidArgument("missing project_id")


def missing(identifier: str) -> NotFound:
    """Return the failure of every lookup that finds no project `identifier` (projects.md 5, 6)."""
    return NotFound(f"project [{identifier}] not found")


def taken() -> AlreadyExists:
    """Return the failure of registering an id that is in use, an archived project's included (projects.md 4)."""
    return AlreadyExists(
        'value with matching already exists (duplicate key value violates unique constraint "projects_pkey")'
    )


def kept(project: Project) -> Project:
    """Return what is stored of `project`: its domains are configuration and organisations do not exist.

    The state is kept as given, whatever its number. Labels that are present stay present, even empty.
    """
    result = Project(id=project.id, name=project.name, description=project.description, state=project.state)
    if project.HasField("labels"):
        result.labels.CopyFrom(project.labels)
    return result


def updated(current: Project, change: Project) -> Project:
    """Return `current` as `change` leaves it (projects.md 5).

    An empty name or description keeps the old one and absent labels keep the old ones, while present labels replace
    them all. A state that is left out reads as active, so it is taken for one only when nothing else is changed: a new
    description must not revive an archived project, and `flytectl update project --activate` must. The labels of the
    latter are there and empty.
    """
    result = kept(current)
    result.name = change.name or current.name
    result.description = change.description or current.description
    if change.labels.values:
        result.labels.CopyFrom(change.labels)
    if change.state != Project.ACTIVE or result == kept(current):
        result.state = change.state
    if change.HasField("labels"):
        result.labels.CopyFrom(change.labels)
    return result


def domains_suffix(domains: Iterable[Domain]) -> bytes:
    """Return what completes a stored project's bytes with `domains`: a repeated field may stand anywhere in them."""
    return Project(domains=domains).SerializeToString()


def seeded(name: str) -> Project:
    """Return the project that seeding makes of a plain `name` (projects.md 14)."""
    return Project(id=name, name=name, description=f"{name} description")


def _check_id(identifier: str) -> None:
    # It becomes part of Kubernetes namespaces and label values.
    if reasons := dns_label_faults(identifier):
        raise InvalidArgument(f"invalid project id [{identifier}]: [{' '.join(reasons)}]")
