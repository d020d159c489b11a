"""The ground every service stands on. It knows no Flyte.

Owns: errors and their translation, messages between services (facts and questions) and the bus that carries them,
the transactional outbox, the database, list machinery, the RPC servers, settings, telemetry, the object store, the
life of a process.

Serves: the packages above it import from its modules; nothing here imports a service, a contract or flyteidl.
"""
