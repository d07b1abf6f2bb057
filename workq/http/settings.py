"""The settings of the HTTP doors of other systems, under the names that they have there.

A field is a key of the door's table in the TOML file (`[hq]`, `[fireworq]`, `[messages]`); one with `variable` is read
from that environment variable too, which wins. How a table is written is in `workq/settings.py`.
"""

import attrs


@attrs.frozen(kw_only=True)
class HqSettings:
    """The table `[hq]`."""


@attrs.frozen(kw_only=True)
class FireworqSettings:
    """The table `[fireworq]`."""


@attrs.frozen(kw_only=True)
class MessagesSettings:
    """The table `[messages]`."""
