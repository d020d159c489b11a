"""gRPC: the method table, its two servers, and limits of client connections."""
