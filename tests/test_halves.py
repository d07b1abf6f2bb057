"""Half a character in JSON is taken for U+FFFD, and all else for what it is."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq.halves import decode_halves

_decode = msgspec.json.Decoder(str).decode
TOKENS = [r"\ud83d", r"\uDE00", r"\u00e9", r"\\", r"\"", r"\n", "ud83d", "a", "é", "\N{GRINNING FACE}"]


@given(st.lists(st.sampled_from(TOKENS)))
def test_each_half_is_replaced_and_nothing_else(tokens: list[str]) -> None:
    text = f'"{"".join(tokens)}"'
    whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", json.loads(text))
    assert decode_halves(_decode, text.encode()) == whole


@pytest.mark.parametrize("body", [b'"\\ud83d', b'"\0\\ud83d"', b'"\0\0ud83d"', b"5", b'"' + b"\\ud83d" * 20_000 + b'"'])
def test_what_is_wrong_otherwise_stays_so(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_halves(_decode, body)
