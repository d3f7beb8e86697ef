"""What reports are made of: scores, aggregates, tables, plots and published figures."""
