"""The messages sent and read for every entity of a package, as JSON; run with the clients' own environment.

`registered.py PACKAGE VERSION`, typed in the folder of the package, after `pyflyte register --copy none` of it.
Serializes the package again, as that did, and reads each entity twice: as a message, and as FlyteRemote parses it.
flytekit parses less than it sends, so the output also has what it parses of the message that it sent.
FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from pathlib import Path
from typing import Any

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flytekit.clients.raw import RawSynchronousFlyteClient as Raw
from flytekit.configuration import Config, ImageConfig, SerializationSettings
from flytekit.configuration.default_images import DefaultImages
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.resources import Resources, ResourceSpec
from flytekit.models.admin.workflow import WorkflowSpec
from flytekit.models.core.workflow import WorkflowTemplate
from flytekit.models.launch_plan import LaunchPlan, LaunchPlanSpec
from flytekit.models.task import TaskSpec, TaskTemplate
from flytekit.remote import FlyteRemote
from flytekit.remote.entities import FlyteLaunchPlan, FlyteTask
from flytekit.tools.repo import serialize_get_control_plane_entities, serialize_load_only
from google.protobuf.json_format import MessageToDict

PROJECT, DOMAIN = "flytesnacks", "development"

Sent = TaskSpec | WorkflowSpec | LaunchPlan


def serialized(package: str, version: str) -> list[Sent]:
    """Return the entities of the package as `pyflyte register --copy none` serializes them."""
    settings = SerializationSettings(
        project=PROJECT,
        domain=DOMAIN,
        version=version,
        image_config=ImageConfig.validate_image(None, "image", (DefaultImages.default_image(),)),
        git_repo="",
        default_resources=ResourceSpec(requests=Resources(), limits=Resources()),
    )
    serialize_load_only([package], settings, str(Path.cwd()))
    return serialize_get_control_plane_entities(settings, str(Path.cwd()), is_registration=True)


def read_task(remote: FlyteRemote, entity: TaskSpec) -> tuple[Any, ...]:
    """Return the messages sent and read, and what flytekit parses of each."""
    sent = entity.to_flyte_idl()
    key = sent.template.id
    read = Raw.get_task(remote.client, ObjectGetRequest(id=key))
    understood = FlyteTask.promote_from_model(TaskTemplate.from_flyte_idl(sent.template))
    fetched = remote.fetch_task(name=key.name, version=key.version)
    return sent, read, understood.template.to_flyte_idl(), fetched.template.to_flyte_idl()


def read_workflow(remote: FlyteRemote, entity: WorkflowSpec) -> tuple[Any, ...]:
    """Return the templates sent and read, and what flytekit parses of each."""
    sent = entity.to_flyte_idl()
    key = sent.template.id
    read = Raw.get_workflow(remote.client, ObjectGetRequest(id=key))
    understood = WorkflowTemplate.from_flyte_idl(sent.template)
    fetched = remote.fetch_workflow(name=key.name, version=key.version)
    return sent, read, understood.to_flyte_idl(), fetched.template.to_flyte_idl()


def read_launch_plan(remote: FlyteRemote, entity: LaunchPlan) -> tuple[Any, ...]:
    """Return the messages sent and read, and what flytekit parses of each."""
    sent = entity.to_flyte_idl()
    read = Raw.get_launch_plan(remote.client, ObjectGetRequest(id=sent.id))
    understood = FlyteLaunchPlan.promote_from_model(entity.id, LaunchPlanSpec.from_flyte_idl(sent.spec))
    fetched = remote.fetch_launch_plan(name=sent.id.name, version=sent.id.version)
    return sent, read, understood.to_flyte_idl(), fetched.to_flyte_idl()


READERS = {TaskSpec: read_task, WorkflowSpec: read_workflow, LaunchPlan: read_launch_plan}
KINDS = {TaskSpec: "tasks", WorkflowSpec: "workflows", LaunchPlan: "launch_plans"}
FORMS = ("sent", "read", "understood", "fetched")


def main(package: str, version: str) -> None:
    """Print all forms of every entity, by kind and name."""
    # Values that do not fit into a message are uploaded while serializing, as they were when registering.
    remote = FlyteRemote(Config.auto(), PROJECT, DOMAIN, data_upload_location="flyte://data")
    with FlyteContextManager.with_context(remote.context.new_builder()):
        entities = serialized(package, version)
    result: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS.values()}
    for entity in entities:
        messages = READERS[type(entity)](remote, entity)
        forms = [MessageToDict(message, preserving_proto_field_name=True) for message in messages]
        name = entity.id.name if isinstance(entity, LaunchPlan) else entity.template.id.name
        result[KINDS[type(entity)]][name] = dict(zip(FORMS, forms, strict=True))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
