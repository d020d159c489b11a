"""Values of the four services, of their migrations and of the cluster resources."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deploy.chart.base import Image, KubernetesObject, Labels, Name, Pods, ReplicatedPods, SecretKey, Seconds, Values


# Settings of services that the chart makes itself, from values above the services' own.
DECIDED = frozenset(
    (
        *("database_url", "nats_url", "nats_ca_file", "nats_certificate_file", "nats_key_file"),
        *("grpc_address", "http2_address", "http_address", "drain_seconds", "log_level", "max_message_bytes"),
        *("objects_url", "public_url", "signing_key", "metadata_storage_prefix", "task_resource_limits", "engine"),
    )
)


class SettingsOf:
    """Marks a table that may have the settings of one service, except those that the chart makes itself."""

    def __init__(self, service: str) -> None:
        self.service = service


class ServiceDatabase(Values):
    """The database of one service, on the server of `database`."""

    name: str = ""
    """Name of the database; empty: the service's name."""

    user: str = ""
    """Role that owns it; empty: the service's name."""

    existing_secret: SecretKey = SecretKey()
    """Key with the role's password; empty: the service's name in `database.existingSecret`."""


class _Service(ReplicatedPods):
    """What the four services have."""

    database: ServiceDatabase = ServiceDatabase()
    """The service's own database."""


class Registry(_Service):
    """The registry: tasks, workflows, launch plans; the compiler."""

    settings: Annotated[dict[str, Any], SettingsOf("registry")] = {}
    """Settings of the registry, by the names of docs/settings.md."""


class Events(_Service):
    """Events of engines, and their log."""

    settings: Annotated[dict[str, Any], SettingsOf("events")] = {}
    """Settings of events, by the names of docs/settings.md."""


class Projects(_Service):
    """Projects and attributes."""

    settings: Annotated[dict[str, Any], SettingsOf("projects")] = {}
    """Settings of projects, by the names of docs/settings.md."""


class Executions(_Service):
    """Executions: launching, stopping, reading; applies events; submits to the engine."""

    settings: Annotated[dict[str, Any], SettingsOf("executions")] = {}
    """Settings of executions, by the names of docs/settings.md."""


class Cluster(Values):
    """A cluster whose credentials are in a Secret."""

    name: str = Field(min_length=1, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Its name; the Secret's files are in the folder `/etc/flyteplane/clusters/<name>`."""

    existing_secret: Name = Field(min_length=1)
    """Secret with a kubeconfig, or with a token and the certificate of its authority."""


class Engine(Values):
    """What runs executions."""

    type: Literal["none", "kubernetes"] = "none"
    """`kubernetes`: FlyteWorkflow resources for flytepropeller. `none`: another program finds executions and sends
    their events."""

    create_resource_definition: bool = True
    """Whether the chart has the definition of FlyteWorkflow. It stays when the chart is removed, as its removal would
    delete every execution."""

    own_cluster: bool = True
    """Whether executions run in the chart's own cluster, so that its service account may write their resources."""

    clusters: list[Cluster] = []
    """Other clusters, each with a Secret; `executions.settings` names its files."""


class ClusterResources(Pods):
    """The job that makes namespaces and quotas for each project and domain."""

    enabled: bool = False
    """Whether it runs."""

    templates: Labels = {}
    """Templates by file name, in the order of which they are applied: one object each."""

    settings: Annotated[dict[str, Any], SettingsOf("cluster_resources")] = {}
    """Its settings, by the names of docs/settings.md."""

    rules: list[KubernetesObject] = []
    """Permissions of its service account, in addition to those for namespaces, resource quotas and service accounts."""


class Migrations(Values):
    """Upgrades of the databases' schemas."""

    mode: Literal["hook", "job", "none"] = "hook"
    """`hook`: before the release is installed or upgraded. `job`: an ordinary Job next to the other objects, for
    deployments without hooks; services wait for it. `none`: an operator runs `python -m services.<name> migrate`."""

    resources: KubernetesObject = {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    }
    """Requests and limits of each of its four containers."""

    backoff_limit: int = Field(default=6, ge=0)
    """Repetitions until the Job has failed."""

    active_deadline_seconds: int = Field(default=1800, ge=60)
    """Time after which it has failed."""

    pod_annotations: Labels = {}
    """Annotations of its pod."""


class ReleaseTest(Values):
    """`helm test`: registers a task, launches it, reads it back."""

    enabled: bool = True
    """Whether there is one."""

    project: str = Field(default="flytesnacks", min_length=1)
    """Project of the task."""

    domain: str = Field(default="development", min_length=1)
    """Its domain."""

    wait_seconds: Seconds = 0
    """How long to wait for the end of the execution; 0: it is terminated at once. Without an engine it has no end."""

    task_image: str = "busybox:1.37"
    """Image of the task, for an engine; its command is `true`."""


def own_image() -> Image:
    """Return the image of Flyteplane."""
    return Image(repository="ghcr.io/flyteplane/flyteplane")
