"""Validate objects by the schemas of the newest minors of Kubernetes; run with the chart's own environment.

`validate.py NUMBER` reads a list of objects as JSON from standard input. It writes the versions and a line for
each object that a schema refuses. Unknown fields are refused. Kinds of operators, without a schema, are in `unknown`.
"""

import json
import sys
from typing import Any

import kubernetes_validate
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError, all_versions, major_minor


def problems(objects: list[dict[str, Any]], versions: list[str]) -> tuple[list[str], set[str]]:
    """Return what is refused, and the kinds without a schema."""
    refused, unknown = [], set()
    for version in versions:
        for each in objects:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except ValidationError as error:
                path = ".".join(map(str, error.path))
                refused.append(f"{version} {each['kind']} {each['metadata']['name']}: {path}: {error.message}")
            except SchemaNotFoundError:
                unknown.add(each["kind"])
    return refused, unknown


if __name__ == "__main__":
    newest = list(dict.fromkeys(map(major_minor, all_versions())))[-int(sys.argv[1]) :]
    found, kinds = problems(json.load(sys.stdin), newest)
    json.dump({"versions": newest, "refused": found, "unknown": sorted(kinds)}, sys.stdout)
