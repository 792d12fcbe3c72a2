"""Delivery: each device gets its envelopes over a WebSocket, in order, at least once, until it acknowledges them."""
