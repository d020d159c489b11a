"""A valid request for every RPC of Flyte's five services, about entities that exist."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flyteidl.admin.project_pb2 import Project, ProjectRegisterRequest
from flyteidl.core.identifier_pb2 import ResourceType
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.entities import WORK, ProjectDomain, Shape, execution, launch_plan, task, workflow
from bench.sequences import NAME_LENGTH, Play
from gateway.descriptors import SERVICE_MODULES

# The nesting of a valid request; identifiers within identifiers within requests need less.
_LEVELS = 5
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NODE = "n0"
_SIGNAL = "signal"
_MD5 = b"0123456789abcdef"


def every_method() -> dict[str, type[Message]]:
    """Return each method's path and the class of its request."""
    return {
        f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
        for module in SERVICE_MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


@dataclass
class Requests:
    """A source of valid requests. `plays` has the events of executions, `names` the executions that exist."""

    scope: ProjectDomain
    plays: Sequence[Play]
    names: Sequence[str]
    rng: random.Random
    methods: dict[str, type[Message]] = field(default_factory=every_method)

    def any(self) -> tuple[str, Message]:
        """Return the path of a method and a valid request to it."""
        path = self.rng.choice(list(self.methods))
        return path, self.valid(path)

    def valid(self, path: str) -> Message:
        """Return a valid request to the method at `path`."""
        name = path.rpartition("/")[2]
        if name.endswith("Event"):
            return self._event(path)
        made = self._creation(name)
        if made is None:
            made = self.methods[path]()
            self._fill(made, _LEVELS)
        return made

    def _creation(self, name: str) -> Message | None:
        version, shape = self._word(), self.rng.choice(list(Shape))
        if name == "CreateTask":
            return task(self.scope, WORK, version)
        if name == "CreateWorkflow":
            return workflow(self.scope, shape, version)
        if name == "CreateLaunchPlan":
            made = launch_plan(self.scope, shape)
            made.id.version = version
            return made
        if name == "CreateExecution":
            return execution(self.scope, shape, self._word())
        if name == "RegisterProject":
            return ProjectRegisterRequest(project=Project(id=self._word(), name=self._word()))
        return None

    def _event(self, path: str) -> Message:
        steps = [step for play in self.plays for step in play.steps if step.path == path]
        step = self.rng.choice(steps)
        request = self.methods[path]()
        request.ParseFromString(step.of(self.rng.choice(self.names).encode()))
        return request

    def _fill(self, message: Message, levels: int) -> None:
        for field_ in message.DESCRIPTOR.fields:
            oneof = field_.containing_oneof
            if field_.is_repeated or (oneof is not None and message.WhichOneof(oneof.name)):
                continue
            if field_.message_type is not None:
                if levels and field_.message_type.full_name.startswith(("flyteidl.core.", "flyteidl.admin.")):
                    self._fill(getattr(message, field_.name), levels - 1)
            elif field_.name in self._known(message):
                setattr(message, field_.name, self._known(message)[field_.name])

    def _known(self, message: Message) -> dict[str, Any]:
        kind = message.DESCRIPTOR.name
        known: dict[str, Any] = {
            "project": self.scope.project,
            "domain": self.scope.domain,
            "node_id": _NODE,
            "limit": self.rng.choice((1, 10, 100)),
            "content_md5": _MD5,
            "filename": self._word(),
            "workflow": f"bench.{Shape.SINGLE}",
        }
        if kind == "WorkflowExecutionIdentifier":
            return known | {"name": self.rng.choice(self.names)}
        if kind == "Identifier":
            return known | {"resource_type": ResourceType.TASK, "name": f"bench.{WORK}", "version": self.scope.version}
        if kind == "NamedEntityIdentifier":
            return known | {"name": f"bench.{WORK}"}
        if kind == "SignalIdentifier":
            return known | {"signal_id": _SIGNAL}
        return known if "resource_type" not in message.DESCRIPTOR.fields_by_name else known | {"resource_type": 1}

    def _word(self) -> str:
        return "".join(self.rng.choices(_LETTERS, k=NAME_LENGTH))
