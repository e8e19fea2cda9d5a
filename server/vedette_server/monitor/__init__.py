"""What a channel's detections mean over time: tracks, rules, camera health."""
