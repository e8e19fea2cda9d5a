"""Shadows."""

from __future__ import annotations


class Shadow:
    """Placeholder until later in this change."""

    def close(self) -> None:
        """Do nothing."""
