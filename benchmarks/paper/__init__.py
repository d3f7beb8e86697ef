"""The published presets: from fixed data and one world model to a policy per task and seed."""
