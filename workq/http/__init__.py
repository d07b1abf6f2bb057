"""HTTP beside TCP: one module for each API, which know nothing of each other, on what they share.

web/            the HTTP server itself
server.py       listeners, request ids, the access log
application.py  what every application has: routes, errors, limits
forms.py        bodies that are forms
settings.py     the settings of the APIs of other systems
"""
