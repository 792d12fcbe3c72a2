"""Accounts of assistants: without a number, enrolled by whoever holds the operator's token."""
