"""What pushed jobs carry and come back with."""

import msgspec
import pytest

from workq.dispatch import PushResult, PushTarget
from workq.values import META_SIZE, RESULT_SIZE, InvalidValue


class TestTarget:
    def test_it_comes_back(self) -> None:
        target = PushTarget(
            "http://localhost/é",
            "json-status",
            (("X-A", "1"), ("X-A", "2")),
            timeout_ms=5,
            content_type="text/plain",
            user_agent="me",
            keep_alive=False,
            door=msgspec.Raw(b'{"comment":"hi"}'),
        )
        assert PushTarget.from_meta(target.to_meta()) == target

    def test_what_is_not_said_takes_no_room(self) -> None:
        assert PushTarget("http://a/").to_meta() == b'{"url":"http://a/"}'

    @pytest.mark.parametrize("meta", [b"", b"{}", b'{"url":1}', b'{"url":"a","verdict":"maybe"}', b"\xff"])
    def test_what_is_none_is_told(self, meta: bytes) -> None:
        with pytest.raises(InvalidValue, match=r"^Invalid push target: "):
            PushTarget.from_meta(meta)

    def test_one_that_is_too_long_is_refused(self) -> None:
        with pytest.raises(InvalidValue, match=r"^Invalid meta size: "):
            PushTarget("x" * META_SIZE.highest).to_meta()


class TestResult:
    def test_it_comes_back(self) -> None:
        result = PushResult("failure", 1, 2, 404, "status", "404 Not Found", "nothing")
        assert PushResult.from_result(result.to_result()) == result

    @pytest.mark.parametrize("result", [b"", b"done", b'{"outcome":"perhaps","started_ms":1,"finished_ms":2}'])
    def test_what_somebody_else_wrote(self, result: bytes) -> None:
        assert PushResult.from_result(result) is None

    @pytest.mark.parametrize(
        "numbers",
        [
            '"started_ms":0,"finished_ms":9300000000000000000',
            '"started_ms":0,"finished_ms":999999999999999',
            '"started_ms":-1,"finished_ms":2',
            '"started_ms":1,"finished_ms":2,"status_code":99',
            '"started_ms":1,"finished_ms":2,"status_code":1000',
        ],
    )
    def test_what_somebody_else_wrote_with_numbers_that_we_never_write(self, numbers: str) -> None:
        assert PushResult.from_result(f'{{"outcome":"success",{numbers}}}'.encode()) is None

    @pytest.mark.parametrize("character", ["x", "é", "\x00", '"'])
    def test_an_output_is_cut_to_what_a_result_may_have(self, character: str) -> None:
        result = PushResult("success", 1, 2, 200, output=character * RESULT_SIZE.highest)
        written = result.to_result()
        assert RESULT_SIZE.highest * 0.9 < len(written) <= RESULT_SIZE.highest
        read = PushResult.from_result(written)
        assert read is not None
        assert read.output_cut
        assert result.output.startswith(read.output)

    @pytest.mark.parametrize("character", ["x", "é", "\x00", '"'])
    def test_so_is_a_message_if_that_is_not_enough(self, character: str) -> None:
        result = PushResult("failure", 1, 2, 200, "answer", character * RESULT_SIZE.highest, "output")
        written = result.to_result()
        assert RESULT_SIZE.highest * 0.9 < len(written) <= RESULT_SIZE.highest
        read = PushResult.from_result(written)
        assert read is not None
        assert (read.output, read.output_cut) == ("", True)
        assert result.error.startswith(read.error)

    @pytest.mark.parametrize("character", ["x", "\x00"])
    def test_an_output_that_hardly_fits_beside_it_is_left_out(self, character: str) -> None:
        """To cut it bit by bit took seconds: a thousand times it became a thousandth shorter."""
        message = "m" * (RESULT_SIZE.highest - 1_000)
        result = PushResult("failure", 1, 2, 200, "answer", message, character * RESULT_SIZE.highest)
        read = PushResult.from_result(result.to_result())
        assert read is not None
        assert (read.error, read.output, read.output_cut) == (message, "", True)
