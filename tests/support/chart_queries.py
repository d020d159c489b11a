"""The metrics that queries of the chart's dashboard and alerts name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm"
_METRIC = re.compile(r"\b(?:flyteplane|envoy|process)_[a-z0-9_]+\b")
# Labels of Envoy's metrics begin as its metrics do.
_LABELS = re.compile(r"\{[^}]*\}|\bby \([^)]*\)")


def queries() -> Iterator[str]:
    """Yield every query."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    rules: Any = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    for group in rules["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def queried_metrics() -> set[str]:
    """Return the names of all metrics in them."""
    return {name for query in queries() for name in _METRIC.findall(_LABELS.sub("", query))}
