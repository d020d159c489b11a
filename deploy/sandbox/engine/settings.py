"""Settings of the sandbox's engine, from the environment; `parts` sets them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class EngineSettings(BaseSettings):
    """Settings of the sandbox's engine."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_ENGINE_", extra="forbid", use_attribute_docstrings=True)

    nats_url: str
    """NATS, as the engine's user."""

    gateway: str
    """host:port of the gateway."""

    token_key: str = Field(default="", repr=False)
    """Key of the tokens by which the gateway knows the engine; empty where callers do not log in."""

    objects_url: str
    """The object store of the services."""

    http_address: str
    """host:port of the logs of tasks, of /healthz, /readyz and /metrics."""

    folder: Path
    """Where runs, attempts of tasks and their logs are."""

    secrets_folder: Path
    """Where the secrets of tasks are, as <group>/<key>."""

    client_config: Path
    """The configuration file of flytekit in tasks."""

    task_python: Path | None = None
    """The Python of tasks; none: one that is made in `task_environment`."""

    task_environment: Path
    """The folder of the environment that is made for tasks."""

    task_lock: Path
    """The requirements of that environment, with their hashes."""

    cores: float = Field(default=0.0, ge=0)
    """Cores that tasks share; 0: those of this machine."""

    memory_bytes: int = Field(default=0, ge=0)
    """Memory that tasks share; 0: that of this machine."""

    nice: int = Field(default=0, ge=0, le=19)
    """How far the processes of tasks give way to others of the machine: 0 not at all, 19 most."""

    warm: bool = True
    """Whether tasks are forks of a process that has imported flytekit; otherwise each starts a new Python."""

    log_level: str = "info"
    """debug, info, warning or error."""
