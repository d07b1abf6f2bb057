"""Jobs, queues, leases, retries, expiry, waiters: one deterministic state machine. No I/O, no clock, no protocol."""

from workq.engine.engine import Engine
from workq.engine.job import NEVER_MS
from workq.engine.waiters import OnReply, Waiter, nobody_is_told

__all__ = ["NEVER_MS", "Engine", "OnReply", "Waiter", "nobody_is_told"]
