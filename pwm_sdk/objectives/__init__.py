"""TensorDict face of the mathematics: what each part of an algorithm minimises."""
