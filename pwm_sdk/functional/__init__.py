"""Pure tensor mathematics: equations in, tensors out; no modules, no state."""
