"""The chart rendered by real Helm, in an environment of its own: its library is as large as all others together."""

import copy
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.manifests import Manifests

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm"
TOOLS = ROOT / "tests" / "chart_tools"
PYTHON = ROOT / ".venv-chart" / "bin" / "python"
RELEASE, NAMESPACE = "flyteplane", "flyte"
_SECONDS = 120
# The values of these need no others.
_ALONE = ("minimal.yaml", "trial.yaml")

Values = dict[str, Any]


class RenderError(Exception):
    """Helm refuses the values, or a template fails."""


def example(*names: str) -> Values:
    """Return the values of some examples, the later ones merged over the earlier ones as Helm does."""
    values: Values = {}
    for name in names:
        merge(values, yaml.safe_load((CHART / "examples" / name).read_text()))
    return values


def values_of_examples() -> dict[str, list[str]]:
    """Return the files of values for each example: its own, for most in addition to minimal.yaml."""
    names = sorted(path.name for path in (CHART / "examples").glob("*.yaml"))
    return {name.removesuffix(".yaml"): [name] if name in _ALONE else ["minimal.yaml", name] for name in names}


def merge(values: Values, others: Values) -> Values:
    """Merge others into values, and return these."""
    for key, value in others.items():
        known = values.get(key)
        values[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return values


def render(names: Sequence[str], more: Values | None = None) -> Manifests:
    """Return the objects of some examples' values, and of others merged over them; raise RenderError."""
    (result,) = render_all([merge(copy.deepcopy(example(*names)), more or {})])
    if isinstance(result, str):
        raise RenderError(result)
    return result


def notes(names: Sequence[str]) -> str:
    """Return what Helm shows after an installation with the values of some examples."""
    request = {"values": example(*names), "name": RELEASE, "namespace": NAMESPACE}
    (result,) = _run("render.py", str(CHART), json.dumps([request]))
    text: str = result["files"]["flyteplane/templates/NOTES.txt"]
    return text


def render_all(sets: Sequence[Values]) -> list[Manifests | str]:
    """Return the objects of each set of values, or Helm's error."""
    requests = [{"values": values, "name": RELEASE, "namespace": NAMESPACE} for values in sets]
    results = _run("render.py", str(CHART), json.dumps(requests))
    return [result["error"] if "error" in result else _manifests(result["files"]) for result in results]


def validate(objects: Sequence[Any], versions: int) -> Any:
    """Return what the schemas of the newest minors of Kubernetes refuse (tests/chart_tools/validate.py)."""
    return _run("validate.py", str(versions), json.dumps(objects))


def _run(tool: str, argument: str, given: str) -> Any:
    ran = subprocess.run(
        [str(PYTHON), str(TOOLS / tool), argument],
        input=given,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _manifests(files: dict[str, str]) -> Manifests:
    documents = (
        document
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
    )
    return Manifests([document for document in documents if document])
