"""Render the chart by Helm for each of some sets of values; run with the chart's own environment.

`render.py CHART` reads JSON from standard input: a list of tables with `values`, `name` and `namespace`. It writes a
list: for each of them the rendered text by template, or `error` with Helm's words.
"""

import json
import sys
from typing import Any

import helm_python


def rendered(chart: helm_python.Chart, request: dict[str, Any]) -> dict[str, Any]:
    """Return the templates of one set of values, or the error."""
    try:
        files = chart.render(request["values"], name=request["name"], namespace=request["namespace"])
    except helm_python.HelmError as error:
        return {"error": str(error)}
    return {"files": files}


if __name__ == "__main__":
    with helm_python.Chart.load(sys.argv[1]) as loaded:
        json.dump([rendered(loaded, request) for request in json.load(sys.stdin)], sys.stdout)
