"""The tasks of the simulators, one file per body."""
