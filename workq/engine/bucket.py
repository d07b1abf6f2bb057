"""A token bucket in whole numbers: how fast the jobs of a queue may be leased."""

from typing import Final

# Units of a token: a rate of 1 in 1000 s gives one unit per ms.
_TOKEN: Final = 1_000_000


class TokenBucket:
    """Fills at `rate` tokens per 1000 s up to `burst`; every lease takes one. It is full when it is new.

    A `burst` of 0 stands for what the rate gives in a second, at least one.
    """

    __slots__ = ("rate", "_most", "_units", "_at_ms")

    def __init__(self, rate: int, burst: int) -> None:
        self.rate = rate
        self._most = _capacity(rate, burst)
        self._units = self._most  # in the bucket at `_at_ms`
        self._at_ms = 0

    def change(self, rate: int, burst: int) -> None:
        """Go on with another rate and burst. What is in the bucket stays, as far as it fits: `fill` it before."""
        self.rate = rate
        self._most = _capacity(rate, burst)
        self._units = min(self._units, self._most)

    def fill(self, now_ms: int) -> None:
        """Let the time up to `now_ms` take effect."""
        self._units = min(self._units + (now_ms - self._at_ms) * self.rate, self._most)
        self._at_ms = now_ms

    def ready_ms(self, now_ms: int) -> int:
        """When there is a token: `now_ms`, or later."""
        self.fill(now_ms)
        missing = _TOKEN - self._units
        return now_ms if missing <= 0 else now_ms - -missing // self.rate

    def take(self, now_ms: int) -> None:
        """Take one of the tokens that are there at `now_ms`."""
        self.fill(now_ms)
        self._units -= _TOKEN


def _capacity(rate: int, burst: int) -> int:
    return _TOKEN * (burst or max(rate // 1000, 1))
