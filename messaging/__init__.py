"""Sub Rosa's messaging: the wire, the relay, the client SDK and the command line."""
