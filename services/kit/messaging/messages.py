"""Declarations of what services exchange: service requests, announcements and JetStream streams.

A service request has a reply; an announcement is about a committed change. Services declare theirs in
`services.contracts`, and `bus` carries them. Payloads are protobuf messages, so that the two sides can be of different
releases.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Payload = TypeVar("Payload", bound=Message)

# A service replies from memory or by one indexed read. Two seconds are enough for the first connections after a
# restart, and far below the 15 s after which Go clients cancel a call.
REQUEST_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True)
class ServiceRequest(Generic[Request, Reply]):
    """A request on `subject` that one replica of the owner serves; the owner's failure is raised at the caller."""

    subject: str
    request: type[Request]
    reply: type[Reply]
    deadline: float = REQUEST_DEADLINE_SECONDS


@dataclass(frozen=True)
class Stream:
    """A JetStream stream in file storage.

    Attributes:
        name: its name.
        subjects: subjects of the messages that it stores.
        max_age: seconds after which a message is deleted; 0 for never.
        interest_retention: a message is deleted once every durable consumer of its subject has acknowledged it. A
            message without a consumer is not stored, so consumers are created first.
    """

    name: str
    subjects: tuple[str, ...]
    max_age: float
    interest_retention: bool = False


@dataclass(frozen=True)
class Announcement(Generic[Payload]):
    """A message published on `subject` (`flyte.<owner>.<noun>.<past participle>`) after its change is committed."""

    subject: str
    message: type[Payload]

    @property
    def owner(self) -> str:
        """The service whose stream stores the announcement."""
        return self.subject.split(".")[1]
