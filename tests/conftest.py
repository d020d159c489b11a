"""What holds for every test: gRPC and processes that tests start, and how long an example of a property may take."""

import os

from hypothesis import HealthCheck, settings

# Tests start programs while gRPC's threads run. gRPC's handlers for a fork would crash some of them before they begin;
# none goes on with the channels of its parent.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# The machine decides how long an example takes, not the code.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
