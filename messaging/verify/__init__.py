"""Checking an enclave from the command line: ``subrosa verify``, ``subrosa policy`` and ``subrosa evidence``.

The judgement is all in ``attestation``; here are files, words and exit codes. ``verify`` and ``policy`` use no network.
"""
