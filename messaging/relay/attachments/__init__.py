"""Attachments: ciphertext that clients upload in pieces and download by an unguessable key."""
