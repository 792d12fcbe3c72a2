"""How the shipped ranker is made: the project's own chats, labels from them, training, and the files it writes.

Nothing here runs in an enclave. ``python -m ai_enclave.engine.train`` makes the weights anew.
"""
