"""Assemblies: they receive components and own the order of an update, never a loop over time."""
