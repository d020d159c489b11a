"""Settings that registry and executions need with the same values."""

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.quantities import AmountSetting
from services.kit.process.settings import ObjectStoreSettings

# flyteadmin's own default: an object store that it filled keeps its layout.
METADATA_STORAGE_PREFIX = "metadata/admin"


class ResourceAmounts(BaseModel):
    """Amounts of resources of a task, as Kubernetes quantities; empty or zero is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: AmountSetting = ""
    memory: AmountSetting = ""
    gpu: AmountSetting = ""
    ephemeral_storage: AmountSetting = ""


class TaskLimits(ResourceAmounts):
    """The most a task may request, as Kubernetes quantities; empty or zero is no limit."""

    cpu: AmountSetting = "2"
    memory: AmountSetting = "1Gi"
    gpu: AmountSetting = "1"


class WorkflowSettings(ObjectStoreSettings):
    """Settings of a service that stores workflows or launches them."""

    metadata_storage_prefix: str = Field(default=METADATA_STORAGE_PREFIX, min_length=1)
    """Folder of the object store for compiled workflows: registered ones and those that dynamic nodes make."""

    task_resource_limits: TaskLimits = TaskLimits()
    """The most a task may request, and the most it gets unless attributes set other limits. The registry refuses tasks
    that request more, and executions passes the limits to the engine, so both need the same."""
