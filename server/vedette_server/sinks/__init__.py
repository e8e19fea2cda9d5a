"""Where events are delivered to: at least once, in order per channel, without making anybody wait."""
