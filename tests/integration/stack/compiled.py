"""What the compiler may make of a workflow's template, both as JSON has them: nothing else may differ.

It adds a start and an end, names the start in promises, sorts the ids of a node's upstream nodes and puts a branch's id
before those of the nodes inside it.
"""

from typing import Any

START, END = "start-node", "end-node"


def bare(template: dict[str, Any]) -> dict[str, Any]:
    """A compiled template without the nodes that the compiler added."""
    return {**template, "nodes": [node for node in template["nodes"] if node["id"] not in {START, END}]}


def as_compiled(template: dict[str, Any]) -> dict[str, Any]:
    """A template as the compiler may change it: the start named, ids of nodes inside branches, and ids in order."""
    compiled: dict[str, Any] = started({**template, "nodes": [node_as_compiled(node) for node in template["nodes"]]})
    return compiled


def node_as_compiled(node: dict[str, Any]) -> dict[str, Any]:
    """A node with the ids it needs in order, and those of the nodes inside it made unique."""
    made = dict(node)
    if "upstream_node_ids" in made:
        made["upstream_node_ids"] = sorted(made["upstream_node_ids"])
    if "branch_node" in made:
        made["branch_node"] = {"if_else": branches_as_compiled(made["branch_node"]["if_else"], made["id"])}
    return made


def branches_as_compiled(if_else: dict[str, Any], branch: str) -> dict[str, Any]:
    """The cases of a branch, whose nodes carry its id before their own."""

    def inside(node: dict[str, Any]) -> dict[str, Any]:
        return node_as_compiled({**node, "id": f"{branch}-{node['id']}"})

    made = {**if_else, "case": {**if_else["case"], "then_node": inside(if_else["case"]["then_node"])}}
    if "other" in made:
        made["other"] = [{**case, "then_node": inside(case["then_node"])} for case in made["other"]]
    if "else_node" in made:
        made["else_node"] = inside(made["else_node"])
    return made


def started(value: Any) -> Any:
    """Promises of inputs of the workflow say so by the id of the start node, but for those inside an array."""
    if isinstance(value, list):
        return [started(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: item if key == "array_node" else started(item) for key, item in value.items()}
    if "promise" in made:
        made["promise"] = {"node_id": START, **made["promise"]}
    return made
