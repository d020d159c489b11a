"""What runs Flyteplane: `sandbox` on one machine; `nats_users` is for any deployment. Imports no service."""
