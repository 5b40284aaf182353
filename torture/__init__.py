"""Faults on purpose: what the receiver promises must hold whatever happens to it."""
