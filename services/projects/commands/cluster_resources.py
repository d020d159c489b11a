"""`cluster-resources`: apply the cluster resources of every project once, or show them."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import yaml

from services.kit.db.database import at_terminal
from services.kit.errors import FailedPrecondition, ServiceError
from services.kit.process.service import Command
from services.projects.config import Settings
from services.projects.jobs.cluster_resource_source import ClusterResourceSource
from services.projects.jobs.cluster_resources import open_appliers
from services.projects.rules.cluster_resources.values import check_namespace
from services.projects.rules.cluster_resources.yaml_templates import render


async def cluster_resources(settings: Settings, arguments: Sequence[str]) -> int:
    """Apply the cluster resources of every project to every enabled cluster, or print them."""
    options = argparse.ArgumentParser(
        prog="python -m services.projects cluster-resources",
        description="Applies the templates of cluster resources for every project and domain to every cluster, once;\n"
        "prints what failed. A running service does the same continuously, and may run meanwhile.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--show", action="store_true", help="print the objects as YAML, and apply nothing")
    show = options.parse_args(arguments).show
    if settings.cluster_resource_templates is None:
        raise FailedPrecondition("the setting cluster_resource_templates names no folder of templates")
    async with at_terminal(settings.database_url) as db, AsyncExitStack() as stack:
        source = ClusterResourceSource(db, settings)
        return await (_show(source) if show else _apply(settings, source, stack))


async def _show(source: ClusterResourceSource) -> int:
    wanted = await source.read()
    failed = 0
    for values in wanted.values:
        for template in wanted.templates:
            try:
                check_namespace(values.own["namespace"])
                sys.stdout.write(yaml.safe_dump_all(render(template, values), explicit_start=True, sort_keys=False))
            except ServiceError as error:
                failed += 1
                _print_failure(f"{values.own['project']}/{values.own['domain']}", template.name, error.message)
    return 1 if failed else 0


async def _apply(settings: Settings, source: ClusterResourceSource, stack: AsyncExitStack) -> int:
    failed = 0
    for applier in open_appliers(settings, source, stack):
        round_ = await applier.apply()
        for failure in round_.failures:
            _print_failure(f"{failure.project}/{failure.domain}", failure.template, failure.reason, applier.cluster)
        rest = "; the cluster is unavailable, and the rest was not tried" if round_.is_unavailable else ""
        name = applier.cluster or "the cluster"
        sys.stdout.write(f"{name}: {round_.applied} applied, {len(round_.failures)} failed{rest}\n")
        failed += len(round_.failures)
    return 1 if failed else 0


def _print_failure(scope: str, template: str, reason: str, cluster: str = "") -> None:
    sys.stderr.write(f"{' '.join(filter(None, (cluster, scope, template)))}: {reason}\n")


CLUSTER_RESOURCES = Command("apply the Kubernetes objects of every project once, or show them", cluster_resources)
