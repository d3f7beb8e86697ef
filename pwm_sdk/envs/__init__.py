"""Environments of the benchmark tasks: the only part of the package that imports simulators."""
