"""The part of HTTP/2 that unary gRPC needs: frames, header blocks, connections."""
