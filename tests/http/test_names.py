"""Names of queues and ids of jobs, as doors make them."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq.http.names import NumberedJobs, queue_name
from workq.values import InvalidValue, check_name


class TestQueueNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("foo", b"fireworq.foo"),
            ("A.b-9", b"fireworq.A.b-9"),
            ("a_b", b"fireworq.a_5fb"),
            ("a b/ü", b"fireworq.a_20b_2f_c3_bc"),
            ("", b"fireworq."),
        ],
    )
    def test_they_are_readable(self, name: str, expected: bytes) -> None:
        assert queue_name("fireworq", name) == expected

    @given(st.text(st.characters(), max_size=300))
    def test_the_engine_takes_them_all(self, name: str) -> None:
        assert check_name(queue_name("fireworq", name))

    @given(st.lists(st.text(st.sampled_from("a_.f5é\x00"), max_size=300), min_size=2, max_size=2, unique=True))
    def test_different_names_stay_different(self, names: list[str]) -> None:
        assert queue_name("hq", names[0]) != queue_name("hq", names[1])

    def test_long_names_differ_by_their_ends_and_from_names_that_look_like_them(self) -> None:
        one, other = queue_name("hq", "x" * 1_000 + "1"), queue_name("hq", "x" * 1_000 + "2")
        assert one != other
        assert len(one) == len(other) == 255
        assert queue_name("hq", one.decode().removeprefix("hq.")) != one


class TestNumbers:
    @given(st.integers(0, 2**64 - 1))
    def test_a_number_comes_back(self, number: int) -> None:
        jobs = NumberedJobs(b"fireworq.foo")
        assert jobs.number(jobs.job_id(number)) == number
        assert uuid.UUID(bytes=jobs.job_id(number)).hex[12] == "8"

    def test_ids_of_another_queue_have_no_number_here(self) -> None:
        assert NumberedJobs(b"fireworq.foo").number(NumberedJobs(b"fireworq.bar").job_id(1)) is None

    @pytest.mark.parametrize("number", [-1, 2**64])
    def test_what_is_no_number(self, number: int) -> None:
        with pytest.raises(InvalidValue, match=f"Invalid id: '{number}' is not a whole number from 0 to "):
            NumberedJobs(b"hq").job_id(number)
