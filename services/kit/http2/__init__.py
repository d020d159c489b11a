"""HTTP/2 as far as unary gRPC needs it: frames, header blocks, connections."""
