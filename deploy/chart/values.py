"""The chart's values, from the top."""

from typing import Annotated, Any, Literal

from pydantic import Field

from deploy.chart.authorization import Audit, Authorization
from deploy.chart.base import Image, KubernetesObject, Labels, Name, Seconds, Values
from deploy.chart.exposure import Gateway, Ingress, NetworkPolicies, Route
from deploy.chart.login import Auth
from deploy.chart.operations import Console, Datacatalog, Monitoring, Patch, Propeller
from deploy.chart.services import (
    ClusterResources,
    Engine,
    Events,
    Executions,
    Migrations,
    Projects,
    Registry,
    ReleaseTest,
    own_image,
)
from deploy.chart.stores import Database, Nats, ObjectStore, Trial

# What a replica needs at a medium load; the README has the reasoning.
_SERVICE = {"requests": {"cpu": "250m", "memory": "192Mi"}, "limits": {"memory": "768Mi"}}
_BUSY = {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
# Envoy's heap may have 512 MiB (gateway/limits.py), and its threads and buffers some more.
_GATEWAY = {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


class ChartValues(Values):
    """All values."""

    image: Image = own_image()
    """The image of Flyteplane, of all four services and all jobs; its repository is needed, as none is published."""

    image_pull_secrets: list[Name] = []
    """Secrets for the registries of all images."""

    name_override: Name = ""
    """Name of the chart in labels and names."""

    fullname_override: Name = ""
    """Prefix of the names of all objects; empty: the release's name, with the chart's unless it contains that."""

    common_labels: Labels = {}
    """Labels of all objects."""

    common_annotations: Labels = {}
    """Annotations of all objects."""

    public_url: str = Field(default="", pattern=r"^$|^https?://[^/]+(/.*)?$")
    """URL of the gateway as clients reach it; signed URLs of a `file://` store start with it. Empty: its address in the
    cluster."""

    auth: Auth = Auth()
    """Login."""

    authorization: Authorization = Authorization()
    """Roles of callers."""

    audit: Audit = Audit()
    """The audit log."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Log level of the four services."""

    fixed_user: bool = True
    """Whether pods run as the user of their image. False: as the user that the cluster chooses, as OpenShift does."""

    pre_stop_seconds: int = Field(default=10, ge=1, le=3600)
    """How long a pod of a service goes on serving after its end was decided: until the gateway's DNS no longer has it,
    5 s for Envoy's cache and 5 s for the cluster's."""

    drain_seconds: Seconds = 20
    """After that, how long calls under way may take to finish."""

    database: Database = Database()
    """PostgreSQL."""

    nats: Nats = Nats()
    """NATS."""

    object_store: ObjectStore = ObjectStore()
    """The object store."""

    metadata_storage_prefix: str = Field(default="metadata/admin", min_length=1)
    """Folder of the object store for compiled workflows."""

    task_resource_limits: dict[Literal["cpu", "memory", "gpu", "ephemeral_storage"], str] = {}
    """The most a task may request, and the most it gets unless attributes set other limits; empty: the services'
    default."""

    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest request, in bytes."""

    engine: Engine = Engine()
    """The engine."""

    registry: Registry = Registry(resources=_SERVICE)
    """The service registry."""

    executions: Executions = Executions(resources=_BUSY)
    """The service executions."""

    events: Events = Events(resources=_BUSY)
    """The service events."""

    projects: Projects = Projects(resources=_SERVICE)
    """The service projects."""

    cluster_resources: ClusterResources = ClusterResources(replicas=1, resources=_SERVICE)
    """Namespaces, quotas and other objects for each project and domain."""

    gateway: Gateway = Gateway(resources=_GATEWAY)
    """The gateway."""

    ingress: Ingress = Ingress()
    """Ingresses in front of the gateway."""

    route: Route = Route()
    """Routes of the Gateway API in front of the gateway."""

    migrations: Migrations = Migrations()
    """Migrations."""

    network_policies: NetworkPolicies = NetworkPolicies()
    """NetworkPolicies."""

    monitoring: Monitoring = Monitoring()
    """Monitoring."""

    test: ReleaseTest = ReleaseTest()
    """The test of the release."""

    trial: Trial = Trial()
    """Parts for trials; not for production."""

    propeller: Propeller = Propeller(resources={"requests": {"cpu": "250m", "memory": "256Mi"}})
    """flytepropeller."""

    console: Console = Console(replicas=1, resources=_SMALL)
    """The console."""

    datacatalog: Datacatalog = Datacatalog(resources=_SMALL)
    """The datacatalog."""

    extra_objects: list[KubernetesObject | str] = []
    """Further objects; a text is a template."""

    patches: list[Patch] = []
    """Changes of the chart's objects that no value covers."""

    global_: Annotated[dict[str, Any], Field(alias="global")] = {}
    """Values of a parent chart; not used."""
