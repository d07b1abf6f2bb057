"""The server process: its settings, its start, its stop."""
