"""True dynamics with the interface of a latent model."""
