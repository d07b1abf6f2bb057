"""Lets `python -m workq.cli` be the `workq` command."""

from workq.cli.main import main

main()
