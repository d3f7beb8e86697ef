"""Recorded experience: keeping, storing and sampling it."""
