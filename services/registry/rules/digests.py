"""Whether two registrations are functionally the same (registry.md 13).

A digest covers every set field, ids, descriptions of variables and the order of lists included. It does not cover the
order of maps, fields this release does not know, or what the registry adds: states and times. An empty message counts
as different from an absent one. Digests never leave the registry, but stay in its database: changing the recipe would
turn every repeated registration into a conflict.
"""

from hashlib import sha256

from flyteidl.admin.launch_plan_pb2 import LaunchPlan, LaunchPlanClosure
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from google.protobuf.message import Message

from services.kit.protobuf.wire import message_field


def task_digest(task: CompiledTask) -> bytes:
    """Return the digest, 32 bytes, of a compiled task."""
    return sha256(_canonical(task)).digest()


def workflow_digest(closure: CompiledWorkflowClosure) -> bytes:
    """Return the digest, 32 bytes, of a compiled workflow with all it needs."""
    return sha256(_canonical(closure)).digest()


def launch_plan_digest(plan: LaunchPlan) -> bytes:
    """Return the digest, 32 bytes, of a launch plan whose defaults have been completed."""
    counted = b""
    if plan.HasField("id"):
        counted += message_field(LaunchPlan.ID_FIELD_NUMBER, _canonical(plan.id))
    if plan.HasField("spec"):
        counted += message_field(LaunchPlan.SPEC_FIELD_NUMBER, _canonical(plan.spec))
    counted += message_field(LaunchPlan.CLOSURE_FIELD_NUMBER, _canonical(_expectations(plan.closure)))
    return sha256(counted).digest()


def _expectations(closure: LaunchPlanClosure) -> LaunchPlanClosure:
    expectations = LaunchPlanClosure()
    if closure.HasField("expected_inputs"):
        expectations.expected_inputs.CopyFrom(closure.expected_inputs)
    if closure.HasField("expected_outputs"):
        expectations.expected_outputs.CopyFrom(closure.expected_outputs)
    return expectations


def _canonical(message: Message) -> bytes:
    """Return what counts of `message`, which is afterwards as before.

    It is not copied for that: copying a map of 150,000 entries takes a fifth of a second.
    """
    whole = message.SerializeToString()
    message.DiscardUnknownFields()
    canonical: bytes = message.SerializeToString(deterministic=True)
    if message.ByteSize() != len(whole):
        message.ParseFromString(whole)
    return canonical
