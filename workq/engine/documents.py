"""Documents: what the server keeps beside jobs, small values by key, in areas that know nothing of each other.

They go through the same events and the same log as jobs. What a value means is the business of its area.
"""

import json
from typing import Final

from workq.values import NO_OPTIONS, InvalidValue, QueueOptions

DOORS: Final = 0  # what doors keep: their queues, routings, counters; opaque to the engine
RECURRING: Final = 1  # recurring jobs, by id: what was asked for
RECURRED: Final = 2  # and how far they have come (`recurring.py`)
QUEUES: Final = 3  # the options of queues, by name

AREA_NAMES: Final = ("doors", "recurring", "recurred", "queues")


def pack_options(options: QueueOptions) -> bytes:
    """The value that says `options`: a JSON object of those that are not 0; b"" if there are none."""
    said = {name: value for name, value in zip(options.__match_args__, options._values(), strict=True) if value}
    return json.dumps(said, separators=(",", ":")).encode() if said else b""


def unpack_options(value: bytes) -> QueueOptions:
    """The options that a value says. Raises `InvalidValue`."""
    if not value:
        return NO_OPTIONS
    try:
        return QueueOptions(**json.loads(value))
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"Invalid options: {value!r}: {error}") from None
