"""Files that last: atomic writing, foreign weights and what they mean."""
