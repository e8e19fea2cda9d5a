"""Run engines on a GPU, pipelined: lanes whose uploads, computing and downloads overlap."""
