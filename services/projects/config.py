"""Settings of the projects service."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from services.kit.process.settings import ProcessSettings
from services.kit.process.version import running_version

NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class ConfiguredDomain(BaseModel):
    """A domain that every project has, written `id` or `id=name`."""

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
    """Settings of the projects service beyond those of every service; in the environment commas separate lists."""

    domains: Annotated[tuple[ConfiguredDomain, ...], NoDecode] = Field(
        default=tuple(ConfiguredDomain(id=name, name=name) for name in ("development", "staging", "production")),
        min_length=1,
    )
    """The domains of every project, in the order in which clients show them: `id` or `id=name` each. What was created
    in a domain that is removed stays readable; nothing new can be created there."""

    seed_projects: Annotated[tuple[NonEmpty, ...], NoDecode] = ("flytesnacks",)
    """Ids of projects that are registered at start if they are absent. An existing one is left as it is, archived
    too."""

    version: str = Field(default_factory=lambda: running_version().version)
    """Version in the response of GetVersion, with a `v` before a number; the console shows it."""

    build: str = Field(default_factory=lambda: running_version().commit)
    """Build in the response of GetVersion: the commit that an image was built from; by default that of the checkout."""

    build_time: str = Field(default_factory=lambda: running_version().time)
    """BuildTime in the response of GetVersion, by default the time of the checkout's commit; when empty, the time at
    which the process started."""

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
