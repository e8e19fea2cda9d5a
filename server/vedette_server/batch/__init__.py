"""Who goes next, and when a batch leaves."""
