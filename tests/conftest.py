"""Settings of all tests: gRPC in programs that tests start, and no deadlines for examples of property tests."""

import os

from hypothesis import HealthCheck, settings

# Tests start programs while gRPC's threads run. gRPC's fork handlers would crash some of them before they begin, and no
# program uses its parent's channels.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# The machine decides how long an example takes, not the code.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
