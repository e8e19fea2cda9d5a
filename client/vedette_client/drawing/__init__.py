"""Draw what was found into the pictures it was found in."""
