"""What may be swapped: protocols of models, policies, agents and pools, and their checkers."""
