"""Names and descriptions of entities, as JSON; run with the clients' own environment.

`named.py VERSION` archives a workflow's name with a description, as flytekit's client does it, and activates it again;
then reads the descriptions of a task and a workflow. flytekit has no functions to read these, so its stub is used.
FLYTECTL_CONFIG names the sandbox's config file.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

from flyteidl.admin.common_pb2 import NamedEntityGetRequest, NamedEntityListRequest, ObjectGetRequest
from flyteidl.admin.description_entity_pb2 import DescriptionEntityListRequest
from flytekit.configuration import Config
from flytekit.models.core.identifier import Identifier, ResourceType
from flytekit.models.named_entity import NamedEntityIdentifier, NamedEntityMetadata, NamedEntityState
from flytekit.remote import FlyteRemote
from google.protobuf.json_format import MessageToDict

PROJECT, DOMAIN = "flytesnacks", "development"
WORKFLOW = "shapes.flows.nested"


def names(remote: FlyteRemote) -> Iterable[tuple[str, Any]]:
    """Yield the state and description of a name, step by step, and whether the console's list has it."""
    stub, key = remote.client._stub, NamedEntityIdentifier(PROJECT, DOMAIN, WORKFLOW)
    request = NamedEntityGetRequest(resource_type=ResourceType.WORKFLOW, id=key.to_flyte_idl())

    def seen() -> list[Any]:
        metadata = stub.GetNamedEntity(request).metadata
        shown = NamedEntityListRequest(
            resource_type=ResourceType.WORKFLOW, project=PROJECT, domain=DOMAIN, limit=10000, filters="eq(state,0)"
        )
        listed = [entity.id.name for entity in stub.ListNamedEntities(shown).entities]
        return [metadata.state, metadata.description, listed.count(WORKFLOW)]

    yield "at first", seen()
    for step, description, state in (
        ("archived", "Three deep", NamedEntityState.ARCHIVED),
        ("back", "", NamedEntityState.ACTIVE),
    ):
        remote.client.update_named_entity(ResourceType.WORKFLOW, key, NamedEntityMetadata(description, state))
        yield step, seen()


def descriptions(remote: FlyteRemote, version: str) -> Iterable[tuple[str, Any]]:
    """Yield the descriptions of two tasks and a workflow."""
    stub = remote.client._stub
    for kind, name in (
        (ResourceType.TASK, "shapes.tasks.documented"),
        (ResourceType.TASK, "shapes.tasks.described"),
        (ResourceType.WORKFLOW, WORKFLOW),
    ):
        key = Identifier(kind, PROJECT, DOMAIN, name, version).to_flyte_idl()
        yield name, MessageToDict(stub.GetDescriptionEntity(ObjectGetRequest(id=key)), preserving_proto_field_name=True)
    key = NamedEntityIdentifier(PROJECT, DOMAIN, WORKFLOW).to_flyte_idl()
    every = DescriptionEntityListRequest(resource_type=ResourceType.WORKFLOW, id=key, limit=100)
    listed = stub.ListDescriptionEntities(every).descriptionEntities
    yield "versions described", sorted(entity.id.version for entity in listed)


if __name__ == "__main__":
    remote = FlyteRemote(Config.auto(), PROJECT, DOMAIN)
    print(json.dumps(dict([*names(remote), *descriptions(remote, sys.argv[1])])))
