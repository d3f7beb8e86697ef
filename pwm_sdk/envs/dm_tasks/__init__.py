"""The eleven dm_control tasks of MT30 that the stock suite does not have, one file per body."""
