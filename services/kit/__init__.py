"""The packages that every service is built on. They are independent of Flyte.

They contain errors and their translation, messages between services (announcements and service requests) and the bus
that carries them, the outbox, the database, lists, the RPC servers, settings, telemetry, the object store, start and
end of a process.

Services and contracts import from these packages; nothing here imports a service, a contract or flyteidl.
"""
