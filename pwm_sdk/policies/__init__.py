"""Policies from observations to actions: acting, saving, exporting, and behaviours in pools."""
