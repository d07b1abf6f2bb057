"""How deep is too deep."""

import json

import pytest

from workq.http.nesting import DEEPEST, is_too_deep


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"]": ', "}]")])
def test_levels_are_counted(opening: str, closing: str, levels: int) -> None:
    each = opening.count("[") + opening.count("{")
    text = opening * (levels // each) + "[" * (levels % each) + "0" + "]" * (levels % each) + closing * (levels // each)
    json.loads(text)
    assert is_too_deep(text.encode()) == (levels > DEEPEST)


def test_what_stands_beside_each_other_or_in_strings_is_not_counted() -> None:
    for value in ([[]] * 2_000, ["[" * 2_000, '\\"' + "{" * 2_000], {"[" * 2_000: "\\"}):
        assert not is_too_deep(json.dumps(value).encode())


def test_a_string_that_does_not_end_takes_no_longer_than_another() -> None:
    """It took hours."""
    assert is_too_deep(b"[" * (DEEPEST + 1) + b'"' + b'\\"' * 500_000)
    assert not is_too_deep(b'"' + b'\\"' * 500_000 + b"[" * (DEEPEST + 1) + b"\\")


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1])
def test_whatever_stands_beside_the_deepest_place(levels: int) -> None:
    deepest = "[" * (levels - 1) + "{}" + "]" * (levels - 1)
    for width in (1, 2, 7, 8, 9, 30):
        comb = "[" * width + "]" * width
        text = f'[{deepest[1:-1]}, {", ".join([comb] * 300)}, "\\\\", "\\"[", {comb}]'
        json.loads(text)
        assert is_too_deep(text.encode()) == (levels > DEEPEST)
