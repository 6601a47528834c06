"""Pickers: each chooses among the endpoints of a profile by their weighted scores.

Flows in: candidates that passed every filter, with the sum of their weighted scores. Flows out: positions, the first
choice first. Randomness comes from the caller's generator, so a seed repeats every choice.
"""
