"""Documents: what the server keeps beside jobs, small values by key, in areas that know nothing of each other.

They go through the same events and the same log as jobs. What a value means is the business of its area.
"""

from typing import Final

DOORS: Final = 0  # what doors keep: their queues, routings, counters; opaque to the engine
RECURRING: Final = 1  # recurring jobs, by id: what was asked for
RECURRED: Final = 2  # and how far they have come (`recurring.py`)

AREA_NAMES: Final = ("doors", "recurring", "recurred")
