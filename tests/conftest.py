"""Settings of all property tests: no deadlines, as the time of an example depends on the machine, not on the code."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
