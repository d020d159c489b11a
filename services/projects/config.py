"""Settings of the projects service."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from services.kit.process.build import running
from services.kit.process.settings import ProcessSettings

NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class ConfiguredDomain(BaseModel):
    """A domain that every project has; the text `id` or `id=name` stands for one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: NonEmpty
    name: NonEmpty

    def __str__(self) -> str:
        return self.id if self.id == self.name else f"{self.id}={self.name}"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        identifier, _, name = value.partition("=")
        return {"id": identifier, "name": name or identifier}


class Settings(ProcessSettings):
    """What the projects service needs beyond what every service needs. Lists are commas in the environment."""

    domains: Annotated[tuple[ConfiguredDomain, ...], NoDecode] = Field(
        default=tuple(ConfiguredDomain(id=name, name=name) for name in ("development", "staging", "production")),
        min_length=1,
    )
    """The domains of every project, in the order in which clients show them: `id` or `id=name` each. Taking one away
    leaves what was made in it readable; nothing new can be made there."""

    seed_projects: Annotated[tuple[NonEmpty, ...], NoDecode] = ("flytesnacks",)
    """Ids of projects that are made at start if they are absent. One that exists stays as it is, archived too."""

    version: str = Field(default_factory=lambda: running().version)
    """What GetVersion answers as Version, a number with a `v` before it; the console shows it."""

    build: str = Field(default_factory=lambda: running().commit)
    """What GetVersion answers as Build: the commit that an image was made from. A checkout knows its own."""

    build_time: str = Field(default_factory=lambda: running().time)
    """What GetVersion answers as BuildTime; when empty, the time at which the process started. A checkout knows when
    its commit was made."""

    @field_validator("domains", "seed_projects", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("domains")
    @classmethod
    def _distinct(cls, value: tuple[ConfiguredDomain, ...]) -> tuple[ConfiguredDomain, ...]:
        if len({domain.id for domain in value}) < len(value):
            raise ValueError("each domain may stand here once")
        return value
