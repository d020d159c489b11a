"""Applies the cluster resources of all project-domains to one cluster (engine.md#cluster-resources).

Objects are applied on the server's side under a field manager of their own: an object that is as its template says
changes nothing, fields of others stay, and fields that a template no longer has are removed. Nothing is deleted.
"""

import asyncio
import contextlib
import logging
from collections import Counter as Count
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from prometheus_client import Counter, Gauge, Histogram

from services.kit.errors import DeadlineExceeded, ServiceError, Unauthenticated, Unavailable
from services.kit.kubernetes.client import KubernetesClient
from services.projects.jobs.cluster_resource_source import ClusterResourceSource, WantedResources
from services.projects.rules.cluster_resources.applied import Applied, AppliedKey, fingerprint
from services.projects.rules.cluster_resources.values import Values, check_namespace
from services.projects.rules.cluster_resources.yaml_templates import Template, render

log = logging.getLogger(__name__)

FIELD_MANAGER = "flyteplane-cluster-resources"
# Project-domains at a time: an API server's default share for one client is some tens of requests.
_WORKERS = 4
# So many failures in a row that do not depend on the object, and the cluster is taken for unavailable.
_MOST_UNAVAILABLE = 2 * _WORKERS
_UNAVAILABLE = (Unavailable, DeadlineExceeded, Unauthenticated)
# After a failure; doubled while there are failures, up to the pause between rounds.
_FIRST_RETRY_SECONDS = 2.0
# While the cluster or the database is unavailable: a round then ends after a few requests.
_UNAVAILABLE_RETRY_SECONDS = 5.0

APPLIED = Counter(
    "flyteplane_cluster_resources_applied_total",
    "Templates applied for a project-domain; outcome is applied or failed",
    ["cluster", "template", "outcome"],
)
FAILING = Gauge(
    "flyteplane_cluster_resources_failing",
    "Project-domains for which a template could not be applied in the last round",
    ["cluster", "template"],
)
DELAY_SECONDS = Histogram(
    "flyteplane_cluster_resources_delay_seconds",
    "From the change of a project or its attributes until its cluster resources are applied",
    ["cluster"],
    buckets=(0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True)
class Failure:
    """A template that could not be applied for a project-domain."""

    project: str
    domain: str
    template: str
    reason: str


class ClusterApplier:
    """Keeps one cluster in step.

    Args:
        cluster: The cluster's name, for metrics and log lines; empty for the only one.
        client: A client of its API server.
        source: What there should be.
        refresh_seconds: Pause between two rounds over all project-domains.
        again_seconds: After this time what was applied is applied again, as others may have changed it.
    """

    def __init__(
        self,
        cluster: str,
        client: KubernetesClient,
        source: ClusterResourceSource,
        *,
        refresh_seconds: float,
        again_seconds: float,
    ) -> None:
        self.cluster = cluster
        self._client = client
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._applied = Applied(again_seconds)
        self._changed: dict[str, datetime] = {}
        self._wake = asyncio.Event()
        self._retry = asyncio.Event()

    def changed(self, project: str, since: datetime) -> None:
        """Have the resources of a project applied now; it has changed at `since`."""
        self._changed.setdefault(project, since)
        self._wake.set()

    async def run(self) -> None:
        """Apply what is missing and what changes, until cancelled.

        Projects that change do not wait for a round over all.
        """
        self._applied.clear()  # another replica may have applied something else meanwhile
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refresh())
            tasks.create_task(self._follow_changes())

    async def _refresh(self) -> None:
        retry = _FIRST_RETRY_SECONDS
        while True:
            self._retry.clear()
            longest_pause = await self._round(None)
            if longest_pause is None:
                retry, longest_pause = _FIRST_RETRY_SECONDS, self._refresh_seconds
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._refresh_seconds):
                        await self._retry.wait()
                if not self._retry.is_set():
                    continue
            retry = min(retry, longest_pause)
            await asyncio.sleep(retry)
            retry *= 2

    async def _follow_changes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            if await self._round(changed) is not None:
                self._retry.set()
                continue
            for since in changed.values():
                DELAY_SECONDS.labels(self.cluster).observe(max(0.0, (datetime.now(UTC) - since).total_seconds()))

    async def _round(self, projects: Container[str] | None) -> float | None:
        """Apply the resources of these projects, or of all.

        Returns:
            The longest pause until the next try, in seconds; None if nothing failed.
        """
        try:
            round_ = await self.apply(projects)
        except ServiceError as error:
            log.warning("cluster resources wait: %s", error.message, extra={"cluster": self.cluster})
            return _UNAVAILABLE_RETRY_SECONDS
        except Exception:
            log.exception("cluster resources wait", extra={"cluster": self.cluster})
            return self._refresh_seconds
        if round_.unavailable:
            return _UNAVAILABLE_RETRY_SECONDS
        return self._refresh_seconds if round_.failures else None

    async def apply(self, projects: Container[str] | None = None) -> "Round":
        """Apply what is due once, for these projects or for all; return the finished round.

        Raises:
            ServiceError: Templates or projects cannot be read.
        """
        wanted = await self._source.read()
        chosen = [values for values in wanted.values if projects is None or values.own["project"] in projects]
        round_ = Round(iter(chosen))
        async with asyncio.TaskGroup() as workers:
            for _ in range(_WORKERS):
                workers.create_task(self._work(round_, wanted))
        if projects is None:
            failing = Count(failure.template for failure in round_.failures)
            for template in wanted.templates:
                FAILING.labels(self.cluster, template.name).set(failing[template.name])
        if round_.applied:
            counts = {"templates": round_.applied, "failed": len(round_.failures)}
            log.info("cluster resources applied", extra={"cluster": self.cluster, **counts})
        return round_

    async def _work(self, round_: "Round", wanted: WantedResources) -> None:
        for values in round_.waiting:
            for template in wanted.templates:
                if round_.is_unavailable:
                    return
                await self._apply_if_due(round_, values, template)
            await asyncio.sleep(0)  # most rounds find nothing to do, and must not hold the event loop up

    async def _apply_if_due(self, round_: "Round", values: Values, template: Template) -> None:
        key = AppliedKey(values.own["project"], values.own["domain"], template.name)
        content = fingerprint(template, values)
        if not self._applied.is_due(key, content, monotonic()):
            return
        try:
            await self._apply(template, values)
        except ServiceError as error:
            self._failed(round_, Failure(*key, error.message), is_unavailable=isinstance(error, _UNAVAILABLE))
        else:
            self._applied.add(key, content, monotonic())
            APPLIED.labels(self.cluster, template.name, "applied").inc()
            round_.applied += 1
            round_.unavailable = 0

    async def _apply(self, template: Template, values: Values) -> None:
        namespace = values.own["namespace"]
        check_namespace(namespace)
        for item in render(template, values):
            resource = await self._client.resource_type(item["apiVersion"], item["kind"])
            if resource.namespaced:
                item["metadata"].setdefault("namespace", namespace)
            await self._client.apply(
                resource, item["metadata"].get("namespace", ""), item, field_manager=FIELD_MANAGER, force=True
            )

    def _failed(self, round_: "Round", failure: Failure, *, is_unavailable: bool) -> None:
        APPLIED.labels(self.cluster, failure.template, "failed").inc()
        log.warning(
            "a cluster resource cannot be applied",
            extra={
                "cluster": self.cluster,
                "scope": f"{failure.project}/{failure.domain}",
                "template": failure.template,
                "reason": failure.reason,
            },
        )
        round_.failures.append(failure)
        round_.unavailable = round_.unavailable + 1 if is_unavailable else 0


class Round:
    """One round over project-domains: what its workers share, and its result."""

    def __init__(self, waiting: Iterator[Values]) -> None:
        self.waiting = waiting
        self.failures: list[Failure] = []
        self.applied = 0
        """How many templates were applied, each for one project-domain."""
        self.unavailable = 0
        """Failures in a row, up to the last request, for which the cluster is the reason."""

    @property
    def is_unavailable(self) -> bool:
        """Whether the cluster does not work, so that the other project-domains wait."""
        return self.unavailable >= _MOST_UNAVAILABLE
