"""The pure core: no I/O, no clock, no global randomness, no logging. Start at ``engine.py``."""
