"""What travels between clients, relay and enclave: names, shapes and sizes; no I/O and no cryptography.

Everything else of ours may import this package; it imports nothing of ours.
"""
