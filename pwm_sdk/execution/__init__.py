"""How an update runs: precision, compiling, CUDA graphs, checks that numbers are finite."""
