"""The official libsignal for Python: see README.md. Import from the modules; this file stays empty for ``public``'s sake."""
