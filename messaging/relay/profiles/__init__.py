"""Profiles: versioned, encrypted under keys that the relay never sees; and checks of identity keys."""
