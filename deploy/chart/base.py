"""What definitions of values share: their base, and forms that several of them have."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KubernetesObject = dict[str, Any]
"""A part of a Kubernetes object, passed on as it is: the API server checks it."""
Labels = dict[str, str]
Name = Annotated[str, Field(pattern=r"^$|^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""The name of a Kubernetes object; empty for none."""
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=0, le=3600)]


class Values(BaseModel):
    """A table of values; the docstring below a value describes it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, alias_generator=to_camel, populate_by_name=True
    )


class Image(Values):
    """A container image."""

    repository: str
    """Registry and name."""

    tag: str = ""
    """Tag; empty: the chart's appVersion, where the image is Flyteplane's own."""

    digest: str = Field(default="", pattern=r"^$|^sha256:[0-9a-f]{64}$")
    """Digest, which wins over the tag."""

    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When nodes pull it."""


class SecretKey(Values):
    """One key of a Secret that exists."""

    name: Name = ""
    """The Secret's name."""

    key: str = ""
    """The key in it."""


class ServiceAccount(Values):
    """The service account of pods."""

    create: bool = True
    """Whether the chart makes it."""

    name: Name = ""
    """Its name; empty: that of the workload."""

    annotations: Labels = {}
    """Annotations, such as the role of a cloud that its pods take on."""


class Autoscaling(Values):
    """A HorizontalPodAutoscaler; with it `replicas` has no effect."""

    enabled: bool = False
    """Whether there is one."""

    min_replicas: int = Field(default=2, ge=1)
    """Fewest replicas."""

    max_replicas: int = Field(default=6, ge=1)
    """Most replicas."""

    cpu_percent: int = Field(default=70, ge=1, le=100)
    """CPU of all replicas, as a share of what they request, above which there are more."""


class DisruptionBudget(Values):
    """A PodDisruptionBudget, while there are two replicas or more."""

    enabled: bool = True
    """Whether there is one."""

    max_unavailable: int | str = 1
    """Pods that a drain of nodes may take at a time, a number or a share such as `25%`."""


class Pods(Values):
    """What all workloads of the chart have."""

    resources: KubernetesObject = {}
    """Requests and limits of the container."""

    service_account: ServiceAccount = ServiceAccount()
    """The service account."""

    pod_annotations: Labels = {}
    """Annotations of pods."""

    pod_labels: Labels = {}
    """Labels of pods, in addition to the chart's."""

    node_selector: Labels = {}
    """Labels of nodes on which pods may run."""

    tolerations: list[KubernetesObject] = []
    """Tolerations of pods."""

    affinity: KubernetesObject = {}
    """Affinity of pods."""

    topology_spread: bool = True
    """Whether pods are spread over zones and nodes as far as that is possible (ScheduleAnyway)."""

    topology_spread_constraints: list[KubernetesObject] = []
    """Topology spread constraints in place of the chart's own, with their label selectors."""

    priority_class_name: Name = ""
    """Priority class of pods."""

    extra_env: list[KubernetesObject] = []
    """Further environment variables of the container, as `name` and `value` or `valueFrom`."""

    extra_env_from: list[KubernetesObject] = []
    """Further sources of environment variables: `secretRef` or `configMapRef` each."""

    extra_volumes: list[KubernetesObject] = []
    """Further volumes of pods."""

    extra_volume_mounts: list[KubernetesObject] = []
    """Mounts of them in the container."""


class ReplicatedPods(Pods):
    """Pods that may run several times."""

    replicas: int = Field(default=2, ge=0)
    """Number of pods; one that ends hands over to the others."""

    autoscaling: Autoscaling = Autoscaling()
    """Autoscaling by CPU."""

    disruption_budget: DisruptionBudget = DisruptionBudget()
    """The disruption budget."""
