"""Settings of the registry."""

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.workflow_settings import WorkflowSettings


class WhitelistScope(BaseModel):
    """Where a task type may be used: a project, or a domain of a project; empty is all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = ""
    domain: str = ""


class Settings(WorkflowSettings):
    """What the registry needs beyond what every service needs (defaults: registry.md section 15)."""

    task_type_whitelist: dict[str, list[WhitelistScope]] = Field(default_factory=dict)
    """Task types that may be used only in some places, as JSON in the environment: type to scopes."""

    max_workflow_nodes: int = Field(default=100, ge=0)
    """Nodes of a workflow at most, those of its sub-workflows and inside branches not counted; 0 is no limit."""

    max_workflow_bytes: int = Field(default=0, ge=0)
    """Largest compiled workflow; 0 is no limit."""

    closure_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for compiled workflows that were read lately."""
