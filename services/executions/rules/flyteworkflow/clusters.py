"""The cluster that receives an execution (engine.md#clusters)."""

import math
from collections.abc import Mapping
from hashlib import blake2b

from services.kit.errors import Internal, Unavailable

_HASH_BYTES = 8
_HASHES = 2 ** (8 * _HASH_BYTES)

Weights = Mapping[str, float]
"""Weights of clusters, by cluster id."""


def choose_cluster(
    execution_name: str,
    label: str,
    *,
    clusters: Mapping[str, bool],
    weights: Mapping[str, Weights],
    default_label: str = "",
) -> str:
    """Return the id of the cluster for an execution, the same for the same name and the same clusters.

    Candidates are the enabled clusters of the label, else those of the default label, else all enabled ones with equal
    weight.

    Args:
        execution_name: Its name decides among the candidates.
        label: Its execution cluster label; "" for none.
        clusters: Whether each cluster is enabled, by id; empty for the single one, whose id is "".
        weights: The clusters of each label.
        default_label: The label for executions whose own has no enabled cluster.

    Raises:
        Internal: There is a label, and no clusters that it could select.
        Unavailable: No cluster is enabled at present.
    """
    if not clusters:
        if label:
            raise Internal(
                f"failed to create workflow in propeller: no clusters are configured, but the execution has the "
                f"execution cluster label [{label}]"
            )
        return ""
    enabled = {cluster for cluster, is_enabled in clusters.items() if is_enabled}
    if not enabled:
        raise Unavailable("failed to create workflow in propeller: no cluster is enabled")
    for each in (label, default_label):
        candidates = {cluster: weight for cluster, weight in weights.get(each, {}).items() if cluster in enabled}
        if candidates:
            return _weighted(execution_name, candidates)
    return _weighted(execution_name, dict.fromkeys(enabled, 1.0))


def _weighted(execution_name: str, weights: Weights) -> str:
    """Choose a cluster by weighted rendezvous hashing: when a cluster goes, only its own executions move.

    Weights of zero count only if all are zero; then all are equal.
    """
    positive = {cluster: weight for cluster, weight in weights.items() if weight > 0}
    counted = positive or dict.fromkeys(weights, 1.0)
    return min(sorted(counted), key=lambda cluster: _distance(execution_name, cluster) / counted[cluster])


def _distance(execution_name: str, cluster: str) -> float:
    """Return an exponentially distributed number, always the same for an execution and a cluster."""
    digest = blake2b(f"{execution_name}/{cluster}".encode(), digest_size=_HASH_BYTES).digest()
    return -math.log((int.from_bytes(digest) + 1) / _HASHES)
