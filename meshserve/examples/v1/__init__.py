"""Generated from `protos/meshserve/examples/v1`: the gRPC services of the examples."""
