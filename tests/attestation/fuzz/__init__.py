"""Bytes that nobody thought of: every parser of ``attestation`` returns, or raises the errors that it documents, in time."""
