"""Runs: what learns in a folder of its own, with its log, its processes and its report."""
