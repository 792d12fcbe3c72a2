"""Accounts and their devices: verification of a number, registration, credentials, sender certificates."""
