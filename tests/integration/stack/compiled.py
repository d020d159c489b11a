"""The changes that the compiler may make to a workflow's template, both as JSON: nothing else may differ.

It adds a start and an end, names the start in promises, sorts the ids of a node's upstream nodes and puts a branch's id
before those of the nodes inside it.
"""

from typing import Any

START, END = "start-node", "end-node"


def bare(template: dict[str, Any]) -> dict[str, Any]:
    """Return a compiled template without the nodes that the compiler added."""
    return {**template, "nodes": [node for node in template["nodes"] if node["id"] not in {START, END}]}


def as_compiled(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template as the compiler may change it: the start named, ids of nodes inside branches, ids in order."""
    compiled: dict[str, Any] = started({**template, "nodes": [node_as_compiled(node) for node in template["nodes"]]})
    return compiled


def node_as_compiled(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node with the ids it needs in order, and those of the nodes inside it compiled unique."""
    compiled = dict(node)
    if "upstream_node_ids" in compiled:
        compiled["upstream_node_ids"] = sorted(compiled["upstream_node_ids"])
    if "branch_node" in compiled:
        compiled["branch_node"] = {"if_else": branches_as_compiled(compiled["branch_node"]["if_else"], compiled["id"])}
    return compiled


def branches_as_compiled(if_else: dict[str, Any], branch: str) -> dict[str, Any]:
    """Return the cases of a branch, whose nodes have its id before their own."""

    def inside(node: dict[str, Any]) -> dict[str, Any]:
        return node_as_compiled({**node, "id": f"{branch}-{node['id']}"})

    compiled = {**if_else, "case": {**if_else["case"], "then_node": inside(if_else["case"]["then_node"])}}
    if "other" in compiled:
        compiled["other"] = [{**case, "then_node": inside(case["then_node"])} for case in compiled["other"]]
    if "else_node" in compiled:
        compiled["else_node"] = inside(compiled["else_node"])
    return compiled


def started(value: Any) -> Any:
    """Return a value whose promises of workflow inputs name the start node, except those inside an array."""
    if isinstance(value, list):
        return [started(item) for item in value]
    if not isinstance(value, dict):
        return value
    compiled = {key: item if key == "array_node" else started(item) for key, item in value.items()}
    if "promise" in compiled:
        compiled["promise"] = {"node_id": START, **compiled["promise"]}
    return compiled
