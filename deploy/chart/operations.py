"""Values of monitoring, and of Flyte's own parts next to Flyteplane."""

from typing import Any

from pydantic import Field

from deploy.chart.base import Image, Labels, Name, Pods, ReplicatedPods, SecretKey, Values


class Monitoring(Values):
    """Objects for the Prometheus operator and Grafana."""

    service_monitors: bool = False
    """Whether there are ServiceMonitors."""

    rules: bool = False
    """Whether there is a PrometheusRule with alerts (`files/rules.yaml`)."""

    dashboard: bool = False
    """Whether there is a ConfigMap with a dashboard (`files/dashboard.json`)."""

    labels: Labels = {}
    """Labels by which the operator finds ServiceMonitors and rules."""

    dashboard_labels: Labels = {"grafana_dashboard": "1"}
    """Labels by which Grafana's sidecar finds the dashboard."""

    interval: str = Field(default="30s", pattern=r"^\d+(ms|s|m)$")
    """Interval of scrapes."""


class Propeller(Pods):
    """flytepropeller in the chart's own cluster, wired to the gateway."""

    enabled: bool = False
    """Whether the chart runs it; it needs `engine.type: kubernetes` and an object store that tasks can read."""

    image: Image = Image(repository="cr.flyte.org/flyteorg/flytepropeller", tag="v1.16.8")
    """Its image."""

    cluster_name: str = ""
    """Name of its cluster in events; empty with one cluster."""

    raw_output_prefix: str = ""
    """URI prefix of tasks' raw data; empty: `objectStore.url`."""

    storage: dict[str, Any] = {}
    """Its `storage` section; required: it has other names for the store's settings than Flyteplane."""

    config: dict[str, Any] = {}
    """Further sections of its configuration, merged over the chart's."""


class Console(ReplicatedPods):
    """Flyte's console, at `/console` of the Ingress or route."""

    enabled: bool = False
    """Whether the chart runs it."""

    image: Image = Image(repository="cr.flyte.org/flyteorg/flyteconsole", tag="v1.19.0")
    """Its image."""

    config: Labels = {}
    """Further environment variables of the console."""


class Datacatalog(Pods):
    """Flyte's datacatalog, the cache of task outputs, for flytepropeller."""

    enabled: bool = False
    """Whether the chart runs it."""

    image: Image = Image(repository="cr.flyte.org/flyteorg/datacatalog", tag="v1.16.8")
    """Its image."""

    database_name: str = "datacatalog"
    """Its database, on the server of `database`."""

    database_user: str = "datacatalog"
    """Its role."""

    database_secret: SecretKey = SecretKey()
    """Key with the role's password; empty: `datacatalog` in `database.existingSecret`."""

    storage: dict[str, Any] = {}
    """Its `storage` section; required, as flytepropeller's."""

    config: dict[str, Any] = {}
    """Further sections of its configuration, merged over the chart's."""


class PatchTarget(Values):
    """Which objects a patch changes."""

    kind: str = Field(min_length=1)
    """Their kind."""

    name: Name = ""
    """Their name; empty: all of the kind."""


class Patch(Values):
    """A change of objects that no value covers."""

    target: PatchTarget
    """The objects."""

    patch: dict[str, Any]
    """What is merged over them: tables are merged, lists and other values replaced."""
