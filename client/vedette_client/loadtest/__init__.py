"""Measure what a server holds: many cameras on an open-loop schedule, and what came of each frame.

Load generators, raw records and statistics are kept apart, as in perf_analyzer: `plan` says what to send,
`generator` sends it and writes `records`, `statistics` reads them, `report` and `page` show the result.
"""
