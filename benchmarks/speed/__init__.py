"""What throughput.py times: updates, training, actions, sampling and environment steps."""
