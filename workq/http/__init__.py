"""HTTP beside TCP: one module for each API, which know nothing of each other, on what they share.

server.py       listeners, and which API is where
application.py  what every application has: errors, request ids, limits
settings.py     the settings of the APIs of other systems
"""
