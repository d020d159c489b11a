"""What cluster resources are made of: every project that is not archived, its attributes, files that change."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from flyteidl.admin.matchable_resource_pb2 import ClusterResourceAttributes, MatchingAttributes
from flyteidl.admin.project_attributes_pb2 import ProjectAttributes, ProjectAttributesUpdateRequest
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from services.kit.db.database import Database
from services.kit.errors import FailedPrecondition
from services.projects.config import Settings
from services.projects.jobs.cluster_resource_source import ClusterResourceSource
from services.projects.rules.cluster_resources.yaml_templates import Template
from tests.support.parts import Parts, Served, service


@pytest.fixture(scope="module")
async def projects(parts: Parts) -> AsyncIterator[Served]:
    """Run the service with three projects, one of them archived."""
    async with service(
        "projects", parts, "cluster_resource_source", seed_projects=(), domains="development,production=Production"
    ) as served:
        admin = AdminServiceStub(served.channel)
        for name in ("old", "gone", "new"):
            await admin.RegisterProject(ProjectRegisterRequest(project=Project(id=name, name=name)))
        await admin.UpdateProject(Project(id="gone", state=Project.ARCHIVED))
        matching = MatchingAttributes(cluster_resource_attributes=ClusterResourceAttributes(attributes={"cpu": "9"}))
        attributes = ProjectAttributes(project="new", matching_attributes=matching)
        await admin.UpdateProjectAttributes(ProjectAttributesUpdateRequest(attributes=attributes))
        yield served


@pytest.fixture
async def db(projects: Served) -> AsyncIterator[Database]:
    opened = await Database.open(projects.settings.database_url, max_size=1)
    yield opened
    await opened.close()


def settings_of(projects: Served, **changes: object) -> Settings:
    return Settings.model_validate(projects.settings.model_dump() | changes)


async def test_source_has_every_project_that_is_not_archived_in_every_domain(
    projects: Served, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.yaml").write_text("b")
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "notes.txt").write_text("no template")
    (tmp_path / "value").write_text("s\n")
    monkeypatch.setenv("ROLE", "r")
    settings = settings_of(
        projects,
        cluster_resource_templates=tmp_path,
        cluster_resource_values={"cpu": "4", "role": {"env": "ROLE"}, "file": {"file": tmp_path / "value"}},
        cluster_resource_domain_values={"production": {"cpu": "5"}},
        namespace_template="ns-{{ project }}-{{ domain }}",
    )
    source = ClusterResourceSource(db, settings)
    wanted = await source.read()
    assert wanted.templates == [Template("a.yaml", "a"), Template("b.yaml", "b")]
    assert [(values.own["namespace"], values.attributes, values.settings["cpu"]) for values in wanted.values] == [
        ("ns-new-development", {"cpu": "9"}, "4"),
        ("ns-new-production", {"cpu": "9"}, "5"),
        ("ns-old-development", {}, "4"),
        ("ns-old-production", {}, "5"),
    ]
    assert wanted.values[0].settings == {"cpu": "4", "role": "r", "file": "s"}
    (tmp_path / "a.yaml").write_text("changed")
    (tmp_path / "value").write_text("t")
    changed = await source.read()
    assert changed.templates[0] == Template("a.yaml", "changed")
    assert changed.values[0].settings["file"] == "t"


@pytest.mark.parametrize(
    ("value", "message"),
    [({"env": "NOT_SET_ANYWHERE"}, "the environment has no variable NOT_SET_ANYWHERE"), (None, "No such file")],
)
async def test_what_cannot_be_read_is_named(
    projects: Served, db: Database, tmp_path: Path, value: object, message: str
) -> None:
    file = tmp_path / "secret"
    file.write_text("s")
    given = {"key": value or {"file": file}}
    settings = settings_of(projects, cluster_resource_templates=tmp_path, cluster_resource_values=given)
    file.unlink()
    with pytest.raises(FailedPrecondition, match=message):
        await ClusterResourceSource(db, settings).read()
