"""The proxy process: HTTP and gRPC ingress."""
