"""Values of the four services, of their migrations and of the cluster resources."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deploy.chart.base import Image, KubernetesObject, Labels, Name, ReplicatedPods, Seconds, SecretKey, Values

# Settings of services that the chart makes itself, from values above the services' own.
DECIDED = frozenset(
    (
        *("database_url", "nats_url", "nats_ca_file", "nats_certificate_file", "nats_key_file"),
        *("grpc_address", "http2_address", "http_address", "drain_seconds", "log_level", "max_message_bytes"),
        *("gateway_secret", "subject_claims", "client_claims", "auth_issuer", "auth_ca_file"),
        *("auth_client_id", "auth_client_redirect_uri", "auth_client_scopes", "auth_client_audience"),
        *("auth_client_header", "login_client_id", "login_client_secret", "login_scopes", "login_redirect_origins"),
        *("authorization_policy", "audit_log", "audit_log_days"),
        *("clusters", "namespace_template", "cluster_resource_templates"),
        *("objects_url", "objects_buckets", "objects_endpoint", "objects_region", "objects_path_style"),
        *(
            "objects_azure_account",
            "objects_ca_file",
            "public_url",
            "signing_key",
            "metadata_storage_prefix",
            "task_resource_limits",
            "engine",
        ),
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
    """A Kubernetes cluster in which executions run."""

    id: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Its name in executions."""

    enabled: bool = True
    """Whether new executions may run there."""

    existing_secret: Name = ""
    """Secret with its credentials: the key `kubeconfig`; or with `server` the keys `ca.crt` and `token`. Empty: the
    chart's own cluster, with the pods' service account."""

    context: str = ""
    """Context of the kubeconfig; empty: its current one."""

    server: str = Field(default="", pattern=r"^$|^https?://.+$")
    """URL of the API server, in place of a kubeconfig."""


class Engine(Values):
    """What runs executions, and where."""

    type: Literal["none", "kubernetes"] = "none"
    """`kubernetes`: FlyteWorkflow resources for flytepropeller. `none`: another program finds executions and sends
    their events."""

    clusters: list[Cluster] = []
    """The clusters; empty: the chart's own. `executions.settings.cluster_weights` has their weights by label."""

    namespace_template: str = Field(default="{{ project }}-{{ domain }}", min_length=1)
    """Kubernetes namespace in which the executions of a project-domain run."""

    create_resource_definition: bool = True
    """Whether the chart has the definition of FlyteWorkflow for its own cluster. It stays when the chart is removed, as
    its removal would delete every execution."""


class ClusterResources(ReplicatedPods):
    """Pods of projects that make namespaces, quotas and other objects for each project and domain.

    No client reaches them, as their service account may do more than those of the services.
    """

    enabled: bool = False
    """Whether there are any."""

    templates: Labels = {
        "aa_namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{ namespace }}\n",
    }
    """Templates of objects by file name, applied in the order of names."""

    settings: Annotated[dict[str, Any], SettingsOf("projects")] = {}
    """Settings in addition to those of projects, such as `cluster_resource_values`."""

    rules: list[KubernetesObject] = [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "patch"]},
    ]
    """Permissions of their service account in the chart's own cluster: `get`, `create` and `patch` for each kind of
    object in the templates."""


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


class TestClient(Values):
    """A client that may use the grant `client_credentials`."""

    id: str = ""
    """Its id."""

    existing_secret: SecretKey = SecretKey()
    """Key with its secret."""


class ReleaseTest(Values):
    """`helm test`: registers a task, launches it, reads it back."""

    enabled: bool = True
    """Whether there is one."""

    project: str = Field(default="flytesnacks", min_length=1)
    """Project of the task."""

    domain: str = Field(default="development", min_length=1)
    """Its domain."""

    client: TestClient = TestClient()
    """The client at the OpenID provider as which the test calls, where callers log in; without one there is no test."""

    wait_seconds: Seconds = 0
    """How long to wait for the end of the execution; 0: it is terminated at once. Without an engine it has no end."""

    task_image: str = "busybox:1.37"
    """Image of the task, for an engine; its command is `true`."""


def own_image() -> Image:
    """Return the image of Flyteplane, which operators build (docs/operating/image.md#the-image)."""
    return Image(repository="")
