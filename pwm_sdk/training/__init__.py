"""Loops that own time: collecting episodes, growing batches, evaluation, metrics."""
