"""Public prekeys: upload with signature checks, counts, and bundles in which each one-time prekey goes out once."""
