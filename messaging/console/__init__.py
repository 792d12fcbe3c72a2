"""The operator's console: a web server of its own over ``messaging.relay.admin``, which decides what may be seen and done.

It reads and writes the relay's database, and nothing that a message is made of: it imports neither a client, nor the enclave, nor the
Signal binding. ``app`` puts it together, ``guards`` stand before every request, ``pages`` and ``api`` show the registry.
"""
