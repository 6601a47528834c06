"""Compares routing policies: the real director in front of simulated model servers, in virtual time."""
