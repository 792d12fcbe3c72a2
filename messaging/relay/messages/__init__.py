"""Sending: one envelope for each device of the recipient, all of them or none, committed before the answer."""
