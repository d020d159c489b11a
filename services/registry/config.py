"""Settings of the registry."""

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.quantities import SettingOfAmount
from services.kit.settings import ProcessSettings


class TaskLimits(BaseModel):
    """The most a task may ask for, as Kubernetes quantities; empty or zero is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: SettingOfAmount = "2"
    memory: SettingOfAmount = "1Gi"
    gpu: SettingOfAmount = "1"
    ephemeral_storage: SettingOfAmount = ""


class WhitelistScope(BaseModel):
    """Where a task type may be used: a project, or a domain of a project; empty is all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = ""
    domain: str = ""


class Settings(ProcessSettings):
    """What the registry needs beyond what every service needs (defaults: registry.md section 15)."""

    objects_url: str = "file:///tmp/flyteplane-objects"
    """The object store that the services share: file:///folder, s3://bucket, gs://bucket or az://container."""

    public_url: str = "http://localhost:30080"
    """Where clients reach the gateway; the registry signs no URLs itself."""

    signing_key: str = Field(default="", repr=False)
    """Key of the signed URLs of a file:// store; the registry signs none."""

    metadata_storage_prefix: str = "metadata/admin"
    """Folder of the object store below which compiled workflows are kept."""

    task_resource_limits: TaskLimits = TaskLimits()
    """What a task may ask for at most."""

    task_type_whitelist: dict[str, list[WhitelistScope]] = Field(default_factory=dict)
    """Task types that may be used only in some places, as JSON in the environment: type to scopes."""

    max_workflow_nodes: int = Field(default=100, ge=0)
    """Nodes of a workflow at most, those of its sub-workflows and inside branches not counted; 0 is no limit."""

    workflow_size_limit: SettingOfAmount = ""
    """Largest compiled workflow, as a Kubernetes quantity of bytes; empty is no limit."""

    closure_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for compiled workflows that were read lately."""
