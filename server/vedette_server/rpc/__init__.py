"""The gRPC edge: the only place that knows the wire."""
