"""Streams in, answers out: the Vedette server."""
