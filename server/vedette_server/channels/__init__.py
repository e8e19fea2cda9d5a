"""The channels that the server knows of: from a file, and made over gRPC."""
