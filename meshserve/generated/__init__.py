"""Ray Serve's service for clients of its gRPC ingress, by the import paths that such clients were written with."""
