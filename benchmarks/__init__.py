"""Measurements that people run by hand: ``python3 dev.py bench NAME``."""
