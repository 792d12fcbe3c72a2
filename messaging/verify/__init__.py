"""Checking an enclave and its receipts from the command line: ``subrosa verify``, ``subrosa policy`` and ``subrosa evidence``.

The judgement is all in ``attestation``, and of receipts in ``messaging.client.receipt_checks``; here are files, words and exit codes. ``verify`` and ``policy`` use no network.
"""
