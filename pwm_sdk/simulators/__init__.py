"""True dynamics behind the contract of a latent model."""
