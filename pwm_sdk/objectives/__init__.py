"""TensorDict interface to the mathematics: what each part of an algorithm minimises."""
