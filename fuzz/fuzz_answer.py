"""Whatever a web worker answers, and in whatever pieces: the same answer or the same complaint, and bounded memory."""

from collections.abc import Iterable
from typing import Final

import attrs

from fuzz.fuzz_decoder import chunks
from workq.dispatch.answer import OUTPUT_LIMIT, AnswerReader, BadAnswer

# Room for what the parser and zlib say.
LONGEST_ERROR: Final = 200


@attrs.frozen
class Read:
    """What a reader has made of some bytes. The error stands for the rest."""

    status_code: int = 0
    body: bytes = b""
    location: str | None = None
    cut: bool = False
    reusable: bool = False
    error: str = ""


def read(pieces: Iterable[bytes], *, ends: bool = False) -> Read | None:
    """Feed pieces, and the end of the connection if it `ends`; None if the answer is not complete then."""
    reader = AnswerReader()
    complete = False
    try:
        for piece in pieces:
            complete = reader.feed(piece)
            if complete and reader.take().location is not None:  # the head of a redirect is enough
                break
        if not complete and (not ends or not reader.end()):
            return None
    except BadAnswer as error:
        return Read(error=str(error))
    finally:
        reader.close()
    answer = reader.take()
    return Read(answer.status_code, answer.body, answer.location, answer.cut, reader.is_reusable())


def check(data: bytes) -> None:
    """Raise if `data` breaks the promise."""
    for ends in (False, True):
        whole = read([data], ends=ends)
        check_same(read([data[i : i + 1] for i in range(len(data))], ends=ends), whole, "byte by byte")
        check_same(read(chunks(data), ends=ends), whole, "in chunks")
        if whole is not None and whole.error:
            assert whole.error.isprintable()
            assert len(whole.error) <= LONGEST_ERROR
        elif whole is not None:
            assert 200 <= whole.status_code <= 999
            assert len(whole.body) <= OUTPUT_LIMIT
            assert whole.location is None or not whole.body


def check_same(found: Read | None, whole: Read | None, how: str) -> None:
    """Raise unless both are the same, apart from what is by chance: how much of a redirect's body is looked at."""
    if found is not None and whole is not None and whole.location is not None:
        found = attrs.evolve(found, reusable=whole.reusable)
    assert found == whole, f"{how} it means something else: {found} instead of {whole}"
