"""The `workq` command, on top of the client library."""
