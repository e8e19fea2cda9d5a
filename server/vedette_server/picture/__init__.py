"""From a decoded picture to an engine's input."""
