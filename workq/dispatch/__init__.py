"""Push delivery: jobs that carry a URL are leased here and POSTed to web workers.

`target.py` says how a job tells where to send it, and how its outcome is told; the doors use these and need to know
nothing else of this room.
"""

from workq.dispatch.target import PushResult, PushTarget

__all__ = ["PushResult", "PushTarget"]
