"""What a first-order policy climbs: gradients of its return and the return's landscape."""
