"""Thousands of changes of accepted evidence, in families; ``tests.attestation.test_mutations`` has each of them refused."""
