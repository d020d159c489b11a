"""Settings of the registry."""

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.workflow_settings import WorkflowSettings


class WhitelistScope(BaseModel):
    """Where a task type may be used: a project, or a domain of a project; empty is any. Named as in flyteadmin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = ""
    domain: str = ""


class Settings(WorkflowSettings):
    """Settings of the registry beyond those of every service (registry.md#registry-settings)."""

    task_type_whitelist: dict[str, list[WhitelistScope]] = Field(default_factory=dict)
    """Task types that may be used only in some projects or domains, as JSON in the environment: lists of
    scopes by type."""

    max_workflow_nodes: int = Field(default=100, ge=0)
    """The most nodes of a workflow, those of its sub-workflows and inside branches not counted; 0 is no limit."""

    max_workflow_bytes: int = Field(default=0, ge=0)
    """The largest compiled workflow; 0 is no limit."""

    closure_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for compiled workflows that were read recently."""
