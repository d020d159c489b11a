"""Cluster resources on a real API server, applied by the real projects service."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from flyteidl.admin.matchable_resource_pb2 import CLUSTER_RESOURCE, ClusterResourceAttributes, MatchingAttributes
from flyteidl.admin.project_attributes_pb2 import ProjectAttributes, ProjectAttributesUpdateRequest
from flyteidl.admin.project_domain_attributes_pb2 import (
    ProjectDomainAttributes,
    ProjectDomainAttributesDeleteRequest,
    ProjectDomainAttributesUpdateRequest,
)
from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from prometheus_client import REGISTRY

from deploy.nats_users import USERS, authorization
from services.kit.db.database import Database
from services.kit.errors import NotFound
from services.kit.kubernetes.client import KubernetesClient, Object
from services.kit.messaging.bus import Bus
from services.kit.process.service import cancel_all
from services.projects.commands.cluster_resources import CLUSTER_RESOURCES
from services.projects.config import Settings
from services.projects.jobs.cluster_resource_source import ClusterResourceSource
from services.projects.jobs.cluster_resources import ClusterResources, open_appliers
from tests.support.control_planes import control_plane
from tests.support.entities import DOMAIN, PROJECT
from tests.support.parts import Parts, free_port, running_nats, service
from tests.support.real_api_servers import RealApiServer

NAMESPACE = (
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{ namespace }}\nspec:\n  finalizers:\n  - kubernetes\n"
)
QUOTA = """\
apiVersion: v1
kind: ResourceQuota
metadata:
  name: project-quota
  namespace: {{ namespace }}
  labels: {project: {{ project }}}
spec:
  hard:
    limits.cpu: {{ projectQuotaCpu }}
    limits.memory: {{ projectQuotaMemory }}
"""
MORE = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: default
  annotations:
    eks.amazonaws.com/role-arn: {{ role }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: team
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: {{ team }}}
"""
VALUES = {"projectQuotaCpu": "4", "projectQuotaMemory": "3000Mi", "role": "arn:aws:iam::1:role/r", "team": "everyone"}
# The promise for a new project; a busy machine gets some more.
SOON_SECONDS = 2.0
LATER_SECONDS = 30.0

Found = TypeVar("Found")


class Running:
    """The projects service and a client of the API server."""

    def __init__(self, admin: AdminServiceStub, client: KubernetesClient, templates: Path) -> None:
        self.admin = admin
        self.client = client
        self.templates = templates

    async def register(self, project: str) -> None:
        await self.admin.RegisterProject(ProjectRegisterRequest(project=Project(id=project, name=project)))

    async def set_attributes(self, project: str, domain: str, **attributes: str) -> None:
        matching = MatchingAttributes(cluster_resource_attributes=ClusterResourceAttributes(attributes=attributes))
        scope = ProjectDomainAttributes(project=project, domain=domain, matching_attributes=matching)
        await self.admin.UpdateProjectDomainAttributes(ProjectDomainAttributesUpdateRequest(attributes=scope))

    async def get(self, kind: str, name: str, namespace: str = "", api_version: str = "v1") -> Object | None:
        try:
            return await self.client.get(await self.client.resource_type(api_version, kind), namespace, name)
        except NotFound:
            return None

    async def quota(self, namespace: str) -> Any:
        found = await self.get("ResourceQuota", "project-quota", namespace)
        return found and found["spec"]["hard"]


async def eventually(look: Callable[[], Awaitable[Found | None]], seconds: float = LATER_SECONDS) -> Found:
    """Return what `look` returns as soon as it is something; raise TimeoutError."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110  # another process has the state and sends no event
            await asyncio.sleep(0.02)
        return found


def counted(outcome: str, template: str, cluster: str = "") -> float:
    labels = {"cluster": cluster, "template": template, "outcome": outcome}
    return REGISTRY.get_sample_value("flyteplane_cluster_resources_applied_total", labels) or 0.0


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write templates, by file name."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


@asynccontextmanager
async def running(
    parts: Parts, api_server: RealApiServer, folder: Path, texts: Mapping[str, str], **settings: Any
) -> AsyncIterator[Running]:
    """Run the projects service with these templates, by file name."""
    write(folder, texts)
    clusters = ({"id": "", **api_server.settings},)
    options = {"clusters": clusters, "cluster_resource_values": VALUES, "seed_projects": (), "domains": "development"}
    database = f"cluster_resources_{folder.parent.name.replace('-', '_')[-30:]}"
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            service("projects", parts, database, cluster_resource_templates=folder, **{**options, **settings})
        )
        client = api_server.client()
        stack.push_async_callback(client.close)
        yield Running(AdminServiceStub(served.channel), client, folder)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """Return the path of the folder of templates."""
    return tmp_path / "templates"


FLYTEADMIN = {"aa_namespace.yaml": NAMESPACE, "ab_project_resource_quota.yaml": QUOTA, "ac_more.yaml": MORE}


async def test_new_project_has_its_objects_within_two_seconds(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    domains = "development,staging,production"
    of_domains = {"production": {"projectQuotaCpu": "5"}}
    async with running(
        parts, api_server, templates, FLYTEADMIN, domains=domains, cluster_resource_domain_values=of_domains
    ) as it:
        await it.register("soon-warm-up")
        await eventually(lambda: it.quota("soon-warm-up-production"))
        await it.register("soon")
        namespaces = [f"soon-{domain}" for domain in domains.split(",")]
        quotas = [await eventually(partial(it.quota, namespace), SOON_SECONDS) for namespace in namespaces]
        assert [quota["limits.cpu"] for quota in quotas] == ["4", "4", "5"]
        binding = await eventually(
            lambda: it.get("RoleBinding", "team", "soon-staging", "rbac.authorization.k8s.io/v1"), SOON_SECONDS
        )
        assert binding["subjects"][0]["name"] == "everyone"
        account = await it.get("ServiceAccount", "default", "soon-staging")
        assert account
        assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}


async def test_attributes_change_objects_at_once_and_their_end_restores_the_settings(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    async with running(parts, api_server, templates, FLYTEADMIN) as it:
        await it.register("attr")
        await eventually(lambda: it.quota("attr-development"))

        async def has(cpu: str) -> bool:
            return bool((await it.quota("attr-development"))["limits.cpu"] == cpu)

        await it.set_attributes("attr", "development", projectQuotaCpu="1000")
        await eventually(lambda: has("1k"), SOON_SECONDS)
        request = ProjectDomainAttributesDeleteRequest(
            project="attr", domain="development", resource_type=CLUSTER_RESOURCE
        )
        await it.admin.DeleteProjectDomainAttributes(request)
        await eventually(lambda: has("4"), SOON_SECONDS)
        whole = MatchingAttributes(
            cluster_resource_attributes=ClusterResourceAttributes(attributes={"projectQuotaCpu": "7"})
        )
        await it.admin.UpdateProjectAttributes(
            ProjectAttributesUpdateRequest(attributes=ProjectAttributes(project="attr", matching_attributes=whole))
        )
        await eventually(lambda: has("7"), SOON_SECONDS)


async def test_callers_values_give_no_permission(parts: Parts, api_server: RealApiServer, templates: Path) -> None:
    async with running(parts, api_server, templates, FLYTEADMIN) as it:
        await it.register("evil")
        hostile = "a\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:masters}"
        await it.set_attributes("evil", "development", team=hostile)

        async def subjects() -> Any:
            found = await it.get("RoleBinding", "team", "evil-development", "rbac.authorization.k8s.io/v1")
            return found and found["subjects"]

        async def hostile_subjects() -> Any:
            found = await subjects()
            return found if found and found[0]["name"] != "everyone" else None

        found = await eventually(hostile_subjects)
        assert [subject["name"] for subject in found] == [hostile]


async def test_nothing_is_written_twice_and_nothing_is_deleted(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    async with running(
        parts, api_server, templates, FLYTEADMIN, cluster_resource_reapply_seconds=1, cluster_resource_refresh_seconds=1
    ) as it:
        await it.register("idle")
        await eventually(lambda: it.get("RoleBinding", "team", "idle-development", "rbac.authorization.k8s.io/v1"))
        first = await it.get("ResourceQuota", "project-quota", "idle-development")
        applied = counted("applied", "ac_more.yaml")

        async def applied_again() -> bool:
            return counted("applied", "ac_more.yaml") >= applied + 2

        await eventually(applied_again)
        assert await it.get("ResourceQuota", "project-quota", "idle-development") == first
        (templates / "ab_project_resource_quota.yaml").unlink()
        await it.admin.UpdateProject(Project(id="idle", state=Project.ARCHIVED))
        await it.register("idle-later")
        await eventually(lambda: it.get("Namespace", "idle-later-development"))
        assert await it.quota("idle-development")
        assert await it.get("Namespace", "idle-development")
        assert not await it.quota("idle-later-development")


async def test_changes_of_others_are_repaired_and_their_own_fields_stay(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    fast = {"cluster_resource_reapply_seconds": 1, "cluster_resource_refresh_seconds": 1}
    async with running(parts, api_server, templates, FLYTEADMIN, **fast) as it:
        await it.register("drift")
        await eventually(lambda: it.quota("drift-development"))
        quota = await it.client.resource_type("v1", "ResourceQuota")
        by_hand = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "project-quota", "labels": {"team": "fruit"}},
            "spec": {"hard": {"limits.cpu": "100", "pods": "7"}},
        }
        await it.client.apply(quota, "drift-development", by_hand, field_manager="a-person", force=True)

        async def repaired() -> Any:
            hard = await it.quota("drift-development")
            return hard if hard["limits.cpu"] == "4" else None

        assert (await eventually(repaired))["pods"] == "7"
        found = await it.get("ResourceQuota", "project-quota", "drift-development")
        assert found
        assert found["metadata"]["labels"] == {"team": "fruit", "project": "drift"}
        await it.client.delete(quota, "drift-development", "project-quota")
        await eventually(lambda: it.quota("drift-development"))


async def test_fields_that_a_template_no_longer_has_are_removed(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    async with running(parts, api_server, templates, FLYTEADMIN, cluster_resource_refresh_seconds=1) as it:
        await it.register("fewer")
        await eventually(lambda: it.quota("fewer-development"))
        (templates / "ab_project_resource_quota.yaml").write_text(
            QUOTA.replace("    limits.cpu: {{ projectQuotaCpu }}\n", "")
        )

        async def fewer() -> Any:
            hard = await it.quota("fewer-development")
            return hard if "limits.cpu" not in hard else None

        assert await eventually(fewer) == {"limits.memory": "3000Mi"}


async def test_objects_of_flyteadmin_are_taken_over(parts: Parts, api_server: RealApiServer, templates: Path) -> None:
    async with running(parts, api_server, templates, FLYTEADMIN) as it:
        for kind, namespace, content in (
            ("Namespace", "", {"metadata": {"name": "moved-development"}}),
            (
                "ResourceQuota",
                "moved-development",
                {"metadata": {"name": "project-quota"}, "spec": {"hard": {"limits.cpu": "1", "limits.memory": "1Gi"}}},
            ),
        ):
            resource = await it.client.resource_type("v1", kind)
            whole = {"apiVersion": "v1", "kind": kind, **content}
            await it.client.create(resource, namespace, whole, field_manager="flyteadmin")
        await it.register("moved")

        async def taken_over() -> bool:
            return bool(await it.quota("moved-development") == {"limits.cpu": "4", "limits.memory": "3000Mi"})

        await eventually(taken_over, SOON_SECONDS)


async def test_failing_template_stops_no_other_and_is_tried_again(
    parts: Parts, api_server: RealApiServer, templates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {
        "aa_broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n}\ndata: {a: {{ nowhere }}}\n",
        "ab_namespace.yaml": NAMESPACE,
        "ac_unknown.yaml": "apiVersion: example.com/v1\nkind: Nothing\nmetadata: {name: n}\n",
        "ad_refused.yaml": QUOTA.replace("{{ projectQuotaCpu }}", "many"),
        "ae_quota.yaml": QUOTA,
    }
    fast = {"cluster_resource_refresh_seconds": 1}
    with caplog.at_level(logging.WARNING, "services.projects.jobs.cluster_applier"):
        async with running(parts, api_server, templates, broken, **fast) as it:
            await it.register("partly")
            await eventually(lambda: it.quota("partly-development"))
            failed = [record.__dict__ for record in caplog.records if "cannot be applied" in record.message]
            reasons = {
                record["template"]: record["reason"] for record in failed if record["scope"].startswith("partly/")
            }
            assert reasons["aa_broken.yaml"] == "template aa_broken.yaml: no value for nowhere"
            assert reasons["ac_unknown.yaml"] == "the API server has no example.com/v1"
            assert "quantities must match" in reasons["ad_refused.yaml"]
            assert all(counted("failed", template) for template in reasons)
            assert reasons.keys() == broken.keys() - {"ab_namespace.yaml", "ae_quota.yaml"}
            (templates / "aa_broken.yaml").write_text(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n}\ndata: {a: {{ team }}}\n"
            )
            await eventually(lambda: it.get("ConfigMap", "n", "partly-development"))


@pytest.mark.parametrize("project", ["kube-system", "default"])
async def test_namespaces_of_kubernetes_are_never_touched(
    parts: Parts, api_server: RealApiServer, templates: Path, project: str
) -> None:
    async with running(parts, api_server, templates, FLYTEADMIN, namespace_template="{{ project }}") as it:
        before = await it.get("Namespace", project)
        await it.register(project)
        await it.register(f"not-{project}")
        await eventually(lambda: it.quota(f"not-{project}"))
        assert await it.get("Namespace", project) == before
        assert not await it.quota(project)


async def test_cluster_that_is_down_delays_no_other(parts: Parts, api_server: RealApiServer, templates: Path) -> None:
    down = {"id": "down", **api_server.settings, "server": f"https://127.0.0.1:{free_port()}"}
    disabled = {"id": "disabled", **api_server.settings, "enabled": False}
    clusters = (down, {"id": "up", **api_server.settings}, disabled)
    async with running(parts, api_server, templates, FLYTEADMIN, clusters=clusters) as it:
        await it.register("two-warm-up")
        await eventually(lambda: it.quota("two-warm-up-development"))
        await it.register("two")
        await eventually(lambda: it.quota("two-development"), SOON_SECONDS)
        assert counted("applied", "aa_namespace.yaml", "up") >= 1
        assert counted("applied", "aa_namespace.yaml", "down") == 0
        assert counted("applied", "aa_namespace.yaml", "disabled") == 0


async def test_create_and_patch_are_all_the_permissions_that_are_needed(
    parts: Parts, api_server: RealApiServer, templates: Path, tmp_path: Path
) -> None:
    kinds = [("", ["namespaces", "resourcequotas", "serviceaccounts"]), ("rbac.authorization.k8s.io", ["rolebindings"])]
    rules = [{"apiGroups": [group], "resources": names, "verbs": ["create", "patch"]} for group, names in kinds]
    rules.append(
        {
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["clusterroles"],
            "resourceNames": ["view"],
            "verbs": ["bind"],
        }
    )
    account = {"name": "cluster-resources", "namespace": "default"}
    rbac = "rbac.authorization.k8s.io"

    def install() -> str:
        api_server.install(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "cluster-resources"},
                "rules": rules,
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "cluster-resources"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-resources"},
                "subjects": [{"kind": "ServiceAccount", **account}],
            },
        )
        path = "/api/v1/namespaces/default/serviceaccounts/cluster-resources/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(api_server.request("POST", path, request)["status"]["token"])

    token = tmp_path / "token"
    token.write_text(await asyncio.to_thread(install))
    clusters = ({"id": "", **api_server.settings, "token_file": token},)
    async with running(parts, api_server, templates, FLYTEADMIN, clusters=clusters) as it:
        await it.register("least")
        await eventually(lambda: it.get("RoleBinding", "team", "least-development", f"{rbac}/v1"))
        assert await it.quota("least-development")


@asynccontextmanager
async def replica(settings: Settings, bus: Bus) -> AsyncIterator[asyncio.Task[None]]:
    """Run the loop of one replica."""
    async with AsyncExitStack() as stack:
        db = await Database.open(settings.database_url, max_size=2)
        stack.push_async_callback(db.close)
        appliers = open_appliers(settings, ClusterResourceSource(db, settings), stack)
        loop = asyncio.create_task(ClusterResources(settings.database_url, bus, appliers).run())
        stack.push_async_callback(cancel_all, [loop])
        yield loop


async def test_one_replica_works_and_another_takes_over(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    write(templates, {"aa_namespace.yaml": NAMESPACE})
    async with service(
        "projects", parts, "cluster_resources_replicas", seed_projects=(), domains="development"
    ) as served:
        it = Running(AdminServiceStub(served.channel), api_server.client(), templates)
        bus = await Bus.connect(parts.nats_url, "projects")

        def of(cluster: str) -> Settings:
            changes = {"cluster_resource_templates": templates, "clusters": ({"id": cluster, **api_server.settings},)}
            return Settings.model_validate(served.settings.model_dump() | changes)

        def applied() -> tuple[float, float]:
            return counted("applied", "aa_namespace.yaml", "a"), counted("applied", "aa_namespace.yaml", "b")

        async with replica(of("a"), bus) as first:
            await it.register("replicas-1")
            await eventually(lambda: it.get("Namespace", "replicas-1-development"))
            async with replica(of("b"), bus):
                await it.register("replicas-2")
                await eventually(lambda: it.get("Namespace", "replicas-2-development"))
                by_first, by_second = applied()
                # A round and an announcement may both apply a project.
                assert 2 <= by_first <= 4
                assert by_second == 0
                await cancel_all([first])
                await it.register("replicas-3")
                # An announcement that was sent to the first one is delivered again after half a minute.
                await eventually(lambda: it.get("Namespace", "replicas-3-development"), 60)
                assert applied()[0] == by_first
                assert 3 <= applied()[1] <= 6
        await it.client.close()
        await bus.close()


async def test_execution_launched_right_after_its_project_was_registered_is_submitted(
    parts: Parts, api_server: RealApiServer, templates: Path
) -> None:
    write(templates, {"aa_namespace.yaml": NAMESPACE})
    template = "first-run-{{ project }}-{{ domain }}"
    async with control_plane(parts, "first_run", [api_server.settings], template) as plane:
        settings = Settings.model_validate(
            {
                "database_url": plane.served.settings.database_url.replace("/first_run?", "/first_run_projects?"),
                "domains": DOMAIN,
                "namespace_template": template,
                "cluster_resource_templates": templates,
                "clusters": ({"id": "", **api_server.settings},),
            }
        )
        bus = await Bus.connect(parts.nats_url, "projects")
        await plane.launch("early")
        async with replica(settings, bus):
            client = api_server.client()
            kind = await client.resource_type("flyte.lyft.com/v1alpha1", "FlyteWorkflow")

            async def submitted() -> bool:
                try:
                    return bool(await client.get(kind, f"first-run-{PROJECT}-{DOMAIN}", "early"))
                except NotFound:
                    return False

            await eventually(submitted)
            assert await plane.phase("early") == "UNDEFINED"
            await client.close()
        await bus.close()


async def test_permissions_of_the_projects_user_suffice(
    parts: Parts, api_server: RealApiServer, templates: Path, tmp_path: Path
) -> None:
    passwords = dict.fromkeys(USERS, "secret")
    with running_nats(tmp_path / "nats", free_port(), authorization(passwords)) as url:
        guarded = replace(parts, nats_url=url.replace("nats://", "nats://projects:secret@"))
        async with running(guarded, api_server, templates, {"aa_namespace.yaml": NAMESPACE}) as it:
            await it.register("permitted-warm-up")
            await eventually(lambda: it.get("Namespace", "permitted-warm-up-development"))
            await it.register("permitted")
            await eventually(lambda: it.get("Namespace", "permitted-development"), SOON_SECONDS)


async def test_command_applies_once_and_shows_objects(
    parts: Parts, api_server: RealApiServer, templates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(templates, {"aa_namespace.yaml": NAMESPACE, "ab_quota.yaml": QUOTA})
    async with service(
        "projects", parts, "cluster_resources_command", seed_projects=("command",), domains="development"
    ) as served:
        changes = {
            "cluster_resource_templates": templates,
            "cluster_resource_values": {"projectQuotaCpu": "4"},
            "clusters": ({"id": "", **api_server.settings},),
        }
        settings = Settings.model_validate(served.settings.model_dump() | changes)
        missing = "command/development ab_quota.yaml: template ab_quota.yaml: no value for projectQuotaMemory\n"
        assert await CLUSTER_RESOURCES.run(settings, ["--show"]) == 1
        printed = capsys.readouterr()
        assert yaml.safe_load(printed.out)["metadata"] == {"name": "command-development"}
        assert printed.err == missing
        it = Running(AdminServiceStub(served.channel), api_server.client(), templates)
        assert not await it.get("Namespace", "command-development")
        assert await CLUSTER_RESOURCES.run(settings, []) == 1
        assert capsys.readouterr() == ("the cluster: 1 applied, 1 failed\n", missing)
        assert await it.get("Namespace", "command-development")
        await it.client.close()
