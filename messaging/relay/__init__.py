"""The relay: it stores and forwards what it cannot read.

It speaks the chat-service contract of Signal-Server. 200 on a send means that every envelope is committed.
"""
