"""gRPC machinery that knows no roles: the I/O thread, crossings between threads, servers, channels."""

import os

# gRPC's core logs every connection that a peer closed; a mesh closes many. Set before the first import of grpc.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
