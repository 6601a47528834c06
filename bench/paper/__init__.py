"""The experiments of arXiv 2602.04900 again: in virtual time, and scaled down on a real control plane."""
