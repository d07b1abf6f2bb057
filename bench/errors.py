"""What can go wrong in a benchmark, told in one line."""


class BenchError(Exception):
    """The benchmark cannot go on. The text tells the user why, and what to do."""


class NotMeasured(Exception):
    """A server did not get through a scenario. The text tells why; the others go on."""
