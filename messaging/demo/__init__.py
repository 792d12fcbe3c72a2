"""The first story: relay, two enclaves and a small cast of real devices on one machine, played and checked.

It starts the real services as processes of their own and uses the client SDK as an application would.
"""
