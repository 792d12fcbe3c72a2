"""The service inside the TEE: an assistant that is a Signal device with an attested identity.

It reads only messages whose authors encrypted them to it, keeps them in memory only, and forgets everything at restart.
"""
