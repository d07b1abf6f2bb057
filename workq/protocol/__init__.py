"""The Workq text protocol, both directions, without I/O: bytes to commands and replies to bytes, and the mirror."""
