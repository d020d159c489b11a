"""The values of placeholders in templates, for each project-domain (engine.md#values-of-templates)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration

from services.contracts.labels import dns_label_faults
from services.kit.errors import InvalidArgument

# Kubernetes' own namespaces: those for which it reserves the prefix, and the one that cannot be deleted.
_RESERVED_PREFIX = "kube-"
_DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Values:
    """What placeholders stand for, by key; of a key in several, the first counts."""

    own: Mapping[str, str]
    """Project, domain and namespace: texts, even if they have digits only."""
    attributes: Mapping[str, str]
    """Set by callers: each stays one scalar."""
    settings: Mapping[str, str]
    """Set by operators: part of the template's text, so one may be a list or a block."""

    @property
    def keys(self) -> set[str]:
        """All keys that have a value."""
        return {*self.own, *self.attributes, *self.settings}


def values_of(
    project: str, domain: str, namespace: str, *, attributes: Mapping[str, str], settings: Mapping[str, str]
) -> Values:
    """Return the values of a project-domain, whose Kubernetes namespace is `namespace`."""
    own = {"project": project, "domain": domain, "namespace": namespace}
    # Settings cannot have its keys; in attributes they have no effect.
    return Values(own, {key: value for key, value in attributes.items() if key not in own}, settings)


def check_namespace(namespace: str) -> None:
    """Raise InvalidArgument unless a project-domain may have `namespace`: a caller chooses the project's id."""
    if reasons := dns_label_faults(namespace):
        raise InvalidArgument(f"{namespace} is no name of a namespace: {' '.join(reasons)}")
    if namespace.startswith(_RESERVED_PREFIX) or namespace == _DEFAULT_NAMESPACE:
        raise InvalidArgument(f"the namespace {namespace} is Kubernetes' own")


class ClusterResourceAttributes:
    """The CLUSTER_RESOURCE attributes of all scopes, the most specific first (projects.md#matching)."""

    def __init__(self, configurations: Sequence[MatchableAttributesConfiguration]) -> None:
        self._ranked: dict[tuple[str, str], tuple[int, Mapping[str, str]]] = {}
        for rank, item in enumerate(configurations):
            if not item.workflow and not item.launch_plan:
                attributes = dict(item.attributes.cluster_resource_attributes.attributes)
                self._ranked.setdefault((item.project, item.domain), (rank, attributes))

    def of(self, project: str, domain: str) -> Mapping[str, str]:
        """Return the attributes of a project-domain: those of one scope, whole."""
        scopes = ((project, domain), ("", domain), (project, ""), ("", ""))
        matching = [self._ranked[scope] for scope in scopes if scope in self._ranked]
        return min(matching, key=lambda ranked: ranked[0])[1] if matching else {}
