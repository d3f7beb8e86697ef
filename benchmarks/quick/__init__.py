"""The quick preset: eight tasks from no data, in rounds of {improve, collect}."""
