"""Digests, by which two registrations are the same or not (registry.md#digests).

A digest covers every set field, ids, descriptions of variables and the order of lists included. It does not cover the
order of maps, unknown fields, or what the registry adds: states and times. An empty message differs from an absent one.
Digests are never returned, but stored: with another algorithm every repeated registration would be a conflict.
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
    """Return the digest, 32 bytes, of a compiled workflow with all that it requires."""
    return sha256(_canonical(closure)).digest()


def launch_plan_digest(plan: LaunchPlan) -> bytes:
    """Return the digest, 32 bytes, of a launch plan whose defaults have been completed."""
    covered = b""
    if plan.HasField("id"):
        covered += message_field(LaunchPlan.ID_FIELD_NUMBER, _canonical(plan.id))
    if plan.HasField("spec"):
        covered += message_field(LaunchPlan.SPEC_FIELD_NUMBER, _canonical(plan.spec))
    covered += message_field(LaunchPlan.CLOSURE_FIELD_NUMBER, _expected_interface(plan.closure))
    return sha256(covered).digest()


def _expected_interface(closure: LaunchPlanClosure) -> bytes:
    covered = b""
    if closure.HasField("expected_inputs"):
        covered += message_field(LaunchPlanClosure.EXPECTED_INPUTS_FIELD_NUMBER, _canonical(closure.expected_inputs))
    if closure.HasField("expected_outputs"):
        covered += message_field(LaunchPlanClosure.EXPECTED_OUTPUTS_FIELD_NUMBER, _canonical(closure.expected_outputs))
    return covered


def _canonical(message: Message) -> bytes:
    """Return the bytes of `message` that a digest covers; leave the message unchanged.

    It is restored rather than copied: copying a map of 150,000 entries takes a fifth of a second.
    """
    serialized: bytes = message.SerializeToString(deterministic=True)
    message.DiscardUnknownFields()
    if message.ByteSize() == len(serialized):
        return serialized
    canonical: bytes = message.SerializeToString(deterministic=True)
    message.ParseFromString(serialized)
    return canonical
