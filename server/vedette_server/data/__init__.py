"""Plain data that flows through the server; imports nothing of ours."""
