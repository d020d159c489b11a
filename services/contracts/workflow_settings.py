"""Settings that registry and executions share: what the one checks at registration, the other applies at launch."""

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.quantities import SettingOfAmount
from services.kit.process.settings import ObjectStoreSettings

# flyteadmin's own default: an object store that it filled keeps its layout.
METADATA_STORAGE_PREFIX = "metadata/admin"


class ResourceAmounts(BaseModel):
    """Amounts of what tasks ask for, as Kubernetes quantities; empty or zero is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: SettingOfAmount = ""
    memory: SettingOfAmount = ""
    gpu: SettingOfAmount = ""
    ephemeral_storage: SettingOfAmount = ""


class TaskLimits(ResourceAmounts):
    """The most a task may ask for, as Kubernetes quantities; empty or zero is no limit."""

    cpu: SettingOfAmount = "2"
    memory: SettingOfAmount = "1Gi"
    gpu: SettingOfAmount = "1"


class WorkflowSettings(ObjectStoreSettings):
    """Settings of a service that stores workflows or launches them."""

    metadata_storage_prefix: str = Field(default=METADATA_STORAGE_PREFIX, min_length=1)
    """Folder of the object store for compiled workflows: the registered ones and those that dynamic nodes make."""

    task_resource_limits: TaskLimits = TaskLimits()
    """The most a task may ask for, and the most it is given unless attributes say otherwise. The registry refuses tasks
    that ask for more, and executions passes the limits to the engine, so both need the same."""
