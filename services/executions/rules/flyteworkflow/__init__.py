"""FlyteWorkflow resources, which flytepropeller executes (engine.md#flyteworkflow-object).

`build_resource` makes the resource of an execution from its workflow and inputs, as flyteadmin's builder does.
`prepare` adds what the control plane decides about the execution. `Offloading` keeps large resources small, and
`choose_cluster` names the cluster that receives one.
"""

from services.executions.rules.flyteworkflow.clusters import choose_cluster
from services.executions.rules.flyteworkflow.errors import BuildFailed
from services.executions.rules.flyteworkflow.offloading import Offloading, offload_closure, offload_inputs
from services.executions.rules.flyteworkflow.preparation import identity, is_same_execution, prepare
from services.executions.rules.flyteworkflow.resource import build_resource

__all__ = [
    "BuildFailed",
    "Offloading",
    "build_resource",
    "choose_cluster",
    "identity",
    "is_same_execution",
    "offload_closure",
    "offload_inputs",
    "prepare",
]
