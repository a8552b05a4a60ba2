"""What deployment code may import: batching, multiplexing, ingress, context."""
