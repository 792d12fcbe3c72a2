"""Tests of attestation.collecting."""
