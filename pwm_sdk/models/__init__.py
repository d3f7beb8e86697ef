"""Modules that own parameters: world model, actor, critic, normalizers."""
