"""Whether two registrations are functionally the same (registry.md 13).

A digest covers every set field, ids, descriptions of variables and the order of lists included. It does not cover the
order of maps, fields this release does not know, or what the registry adds: states and times. An empty message counts
as different from an absent one. Digests never leave the registry, but stay in its database: changing the recipe would
turn every repeated registration into a conflict.
"""

from hashlib import sha256

from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure


def task_digest(task: CompiledTask) -> bytes:
    """Return the digest, 32 bytes, of a compiled task."""
    return _digest(CompiledTask.FromString(task.SerializeToString()))


def workflow_digest(closure: CompiledWorkflowClosure) -> bytes:
    """Return the digest, 32 bytes, of a compiled workflow with all it needs."""
    return _digest(CompiledWorkflowClosure.FromString(closure.SerializeToString()))


def launch_plan_digest(plan: LaunchPlan) -> bytes:
    """Return the digest, 32 bytes, of a launch plan whose defaults have been completed."""
    counted = LaunchPlan()
    if plan.HasField("id"):
        counted.id.CopyFrom(plan.id)
    if plan.HasField("spec"):
        counted.spec.CopyFrom(plan.spec)
    counted.closure.CopyFrom(_expectations(plan.closure))
    return _digest(counted)


def _expectations(closure: LaunchPlanClosure) -> LaunchPlanClosure:
    expectations = LaunchPlanClosure()
    if closure.HasField("expected_inputs"):
        expectations.expected_inputs.CopyFrom(closure.expected_inputs)
    if closure.HasField("expected_outputs"):
        expectations.expected_outputs.CopyFrom(closure.expected_outputs)
    return expectations


def _digest(own: CompiledTask | CompiledWorkflowClosure | LaunchPlan) -> bytes:
    """Return the digest of `own`, which loses its unknown fields."""
    own.DiscardUnknownFields()
    return sha256(own.SerializeToString(deterministic=True)).digest()
