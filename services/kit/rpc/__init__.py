"""gRPC: the method table, its two servers, and what a client connection may take."""
