"""The client's half of the protocol: the same replies from any chunking, and a mirror of the server's half."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq import commands as c
from workq import replies as r
from workq.protocol import server
from workq.protocol.client import MAX_LINE, Connection, ProtocolError, encode
from workq.recurrence import parse_rule
from workq.values import MIB, JobSpec, QueueOptions, RetryPolicy

ID = bytes.fromhex("61a444a0612841c08078cc757d3bd2d8")
TEXT = b"61a444a0-6128-41c0-8078-cc757d3bd2d8"
SPEC = JobSpec(b"ping", 1000, 60_000)
FULL_SPEC = JobSpec(b"ping", 1000, 60_000, -10, 3, 2)
AWKWARD = b"\r\n+OK\r\npayload 7\r\n\0\xff"

COMMANDS = [
    (c.Add(ID, SPEC, b"pong"), b"add %b ping 1000 60000 4\r\npong\r\n" % TEXT),
    (c.Add(ID, SPEC, b""), b"add %b ping 1000 60000 0\r\n\r\n" % TEXT),
    (
        c.Add(ID, FULL_SPEC, AWKWARD),
        b"add %b ping 1000 60000 20 -priority=-10 -max-attempts=3 -max-fails=2\r\n%b\r\n" % (TEXT, AWKWARD),
    ),
    (c.Add(ID, SPEC, b"pong", delay_ms=70), b"add %b ping 1000 60000 4 -delay=70\r\npong\r\n" % TEXT),
    (
        c.Add(ID, JobSpec(b"ping", 1000, 60_000, 0, 0, 2, RetryPolicy(70)), b"pong"),
        b"add %b ping 1000 60000 4 -max-fails=2 -retry-delay=70\r\npong\r\n" % TEXT,
    ),
    (
        c.Add(ID, JobSpec(b"ping", 1000, 60_000, retry=RetryPolicy(70, 2_505, 900)), b"", delay_ms=5),
        b"add %b ping 1000 60000 0 -retry-delay=70 -retry-backoff=2.505 -retry-max-delay=900 -delay=5\r\n\r\n" % TEXT,
    ),
    (
        c.Schedule(ID, SPEC, 1_893_499_200_000, b"pong"),
        b"schedule %b ping 1000 60000 2030-01-01T12:00:00Z 4\r\npong\r\n" % TEXT,
    ),
    (
        c.Schedule(ID, FULL_SPEC, 1_893_499_200_007, b"p"),
        b"schedule %b ping 1000 60000 2030-01-01T12:00:00.007Z 1 -priority=-10 -max-attempts=3 -max-fails=2\r\np\r\n"
        % TEXT,
    ),
    (
        c.Recur(ID, SPEC, parse_rule("every:100"), False, b"pong"),
        b"recur %b ping 1000 60000 every:100 4\r\npong\r\n" % TEXT,
    ),
    (
        c.Recur(ID, FULL_SPEC, parse_rule("cron:*_*_*_*_*@Europe/Berlin"), True, b""),
        b"recur %b ping 1000 60000 cron:*_*_*_*_*@Europe/Berlin 0 -priority=-10 -max-attempts=3 -max-fails=2 "
        b"-overlap=skip\r\n\r\n" % TEXT,
    ),
    (c.InspectRecurring(5, 100), b"inspect recurring 5 100\r\n"),
    (c.Run(ID, JobSpec(b"ping", 1000, 0, foreground=True), 50, b"x"), b"run %b ping 1000 50 1\r\nx\r\n" % TEXT),
    (
        c.Run(ID, JobSpec(b"ping", 1000, 0, 7, foreground=True), 50, b"x"),
        b"run %b ping 1000 50 1 -priority=7\r\nx\r\n" % TEXT,
    ),
    (c.Lease((b"ping", b"pong"), 60_000), b"lease ping pong 60000\r\n"),
    (c.Lease((b"ping",), 5, fenced=True), b"lease ping 5 -attempt=1\r\n"),
    (c.Lease((b"ping",), 5, count=100), b"lease ping 5 -count=100\r\n"),
    (c.Lease((b"ping",), 5, True, 100), b"lease ping 5 -count=100 -attempt=1\r\n"),
    (c.Results((ID, ID), 10), b"result %b %b 10\r\n" % (TEXT, TEXT)),
    (c.Complete(ID, b"fine"), b"complete %b 4\r\nfine\r\n" % TEXT),
    (c.Complete(ID, b"fine", 7), b"complete %b 4 -attempt=7\r\nfine\r\n" % TEXT),
    (c.Fail(ID, b""), b"fail %b 0\r\n\r\n" % TEXT),
    (c.Fail(ID, b"", 7, final=True), b"fail %b 0 -attempt=7 -final=1\r\n\r\n" % TEXT),
    (c.Touch(ID), b"touch %b\r\n" % TEXT),
    (c.Touch(ID, 7), b"touch %b -attempt=7\r\n" % TEXT),
    (c.Release(ID), b"release %b\r\n" % TEXT),
    (c.Release(ID, 500, 7), b"release %b -delay=500 -attempt=7\r\n" % TEXT),
    (c.Result(ID, 10), b"result %b 10\r\n" % TEXT),
    (c.Delete(ID), b"delete %b\r\n" % TEXT),
    (c.Progress(ID, b"50%"), b"progress %b 3\r\n50%%\r\n" % TEXT),
    (c.Progress(ID, AWKWARD, 7, True), b"progress %b 20 -attempt=7 -touch=1\r\n%b\r\n" % (TEXT, AWKWARD)),
    (c.Ping(), b"ping\r\n"),
    (c.Quit(), b"quit\r\n"),
    (c.Retry(ID), b"retry %b\r\n" % TEXT),
    (c.Clear(b"ping"), b"clear ping -state=all\r\n"),
    (c.Clear(b"ping", "failed"), b"clear ping -state=failed\r\n"),
    (c.InspectJobs(b"ping", "leased", 0, 1), b"inspect leased-jobs ping 0 1\r\n"),
    (c.InspectJobs(b"ping", "failed", 0, 1), b"inspect failed-jobs ping 0 1\r\n"),
    (c.InspectJobs(b"ping", "completed", 0, 1), b"inspect completed-jobs ping 0 1\r\n"),
    (c.ConfigureQueue(b"ping"), b"queue ping\r\n"),
    (c.ConfigureQueue(b"ping", max_len=0, to_back=False), b"queue ping -max-len=0 -returned=front\r\n"),
    (
        c.ConfigureQueue(b"ping", 1, 2, 3, 4, 5, 6, True),
        b"queue ping -max-len=1 -max-leased=2 -lease-rate=3 -lease-burst=4 -ttr=5 -max-attempts=6 -returned=back\r\n",
    ),
    (c.PauseQueue(b"ping"), b"pause ping\r\n"),
    (c.ResumeQueue(b"ping"), b"resume ping\r\n"),
    (c.InspectServer(), b"inspect server\r\n"),
    (c.InspectQueue(b"ping"), b"inspect queue ping\r\n"),
    (c.InspectQueues(5, 100), b"inspect queues 5 100\r\n"),
    (c.InspectJob(ID), b"inspect job %b\r\n" % TEXT),
    (c.InspectJobs(b"ping", "ready", 0, 1), b"inspect jobs ping 0 1\r\n"),
    (c.InspectJobs(b"ping", "scheduled", 0, 1), b"inspect scheduled-jobs ping 0 1\r\n"),
]

JOB = r.JobInfo(ID, b"ping", 1000, 60_000, AWKWARD, 3, 1, 2, 0, -10, 4, 1_466_000_000_000, 0)
SCHEDULED = r.JobInfo(ID, b"ping", 1000, 60_000, b"", 0, 0, 0, 0, 0, 0, 1_466_000_000_000, 1_893_499_200_000)
RECURRING = r.RecurringInfo(
    *(ID, b"ping", 1000, 60_000, AWKWARD, 3, 2, -10, "every:100", True, 5, 6, 1_466_000_001_000, 1_466_000_000_000, ID)
)
UNTRIED = r.RecurringInfo(ID, b"ping", 1000, 60_000, b"", 0, 0, 0, "cron:0_0_*_*_*", False, 0, 0, 0, 0, b"")
WORKING = r.JobInfo(ID, b"ping", 1, 60_000, b"", 0, 1, 0, 0, 0, 4, 1_466_000_000_000, 0, progress=AWKWARD + b" 50%")
ADD = COMMANDS[0][0]
LEASE = c.Lease((b"ping",), 0)
RESULT = c.Result(ID, 0)

# What was asked, what the server answers.
REPLIES: list[tuple[c.Command, r.Reply]] = [
    (ADD, r.OK),
    (ADD, r.DUPLICATE_JOB),
    (ADD, r.Unavailable("the log cannot be written: No space left on device")),
    (ADD, r.QUEUE_FULL),
    (c.ConfigureQueue(b"ping", 1), r.OK),
    (c.Retry(ID), r.NOT_FAILED),
    (c.Clear(b"ping"), r.Cleared(b"ping", 7)),
    (c.Clear(b"ping"), r.NOT_FOUND),
    (c.InspectJobs(b"ping", "failed", 0, 1), r.Jobs([])),
    (c.PauseQueue(b"ping"), r.OK),
    (c.ResumeQueue(b"ping"), r.OK),
    (c.Delete(ID), r.NOT_FOUND),
    (LEASE, r.TIMED_OUT),
    (LEASE, r.LeasedJob(ID, b"ping", 1000, AWKWARD)),
    (LEASE, r.LeasedJob(ID, b"ping", 1000, b"")),
    (c.Lease((b"ping",), 0, fenced=True), r.LeasedJob(ID, b"ping", 1000, AWKWARD, attempt=4_294_967_295)),
    (c.Lease((b"ping",), 0, count=2), r.LeasedJobs([r.LeasedJob(ID, b"ping", 1000, AWKWARD)])),
    (c.Lease((b"ping",), 0, True, 2), r.LeasedJobs([r.LeasedJob(ID, b"p", 1, AWKWARD, attempt=n) for n in (1, 2)])),
    (c.Lease((b"ping",), 0, count=2), r.TIMED_OUT),
    (c.Results((ID, ID), 0), r.JobResults([r.JobResult(ID, True, AWKWARD), r.JobResult(ID, False, b"")])),
    (c.Results((ID, ID), 0), r.NOT_FOUND),
    (c.Touch(ID), r.OK),
    (c.Complete(ID, b"", 1), r.LEASE_EXPIRED),
    (RESULT, r.JobResult(ID, True, AWKWARD)),
    (RESULT, r.JobResult(ID, False, b"")),
    (c.InspectServer(), r.ServerInfo(3, 4, 1_466_000_000_000)),
    (c.InspectQueue(b"ping"), r.Queues([r.QueueInfo(b"ping", 1, 2, 3)])),
    (
        c.InspectQueue(b"ping"),
        r.Queues(
            [
                r.QueueInfo(
                    *(b"ping", 1, 2, 3, 4, 5, 6, 7),
                    QueueOptions(1, 2, 3, 4, 5, 6, True, True),
                    r.QueueTotals(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
                )
            ]
        ),
    ),
    (c.InspectQueues(0, 100), r.Queues([])),
    (c.InspectQueues(0, 100), r.Queues([r.QueueInfo(b"a", 1, 2, 3), r.QueueInfo(b"b", 0, 4_000_000_000, 0)])),
    (c.InspectJob(ID), r.Jobs([JOB])),
    (c.InspectJob(ID), r.Jobs([WORKING])),
    (c.Ping(), r.OK),
    (c.InspectJobs(b"ping", "ready", 0, 100), r.Jobs([JOB, SCHEDULED, JOB])),
    (c.InspectRecurring(0, 100), r.RecurringJobs([RECURRING, UNTRIED])),
]


@pytest.mark.parametrize(("command", "data"), COMMANDS)
def test_a_command_is_written_as_the_server_reads_it(command: c.Command, data: bytes) -> None:
    assert encode(command) == data
    decoder = server.Decoder()
    decoder.feed(data)
    assert decoder.next() == command
    assert decoder.next() is None


@pytest.mark.parametrize(("command", "reply"), REPLIES)
def test_a_reply_is_the_same_wherever_it_is_cut(command: c.Command, reply: r.Reply) -> None:
    data = server.encode(reply)
    for cut in range(len(data) + 1):
        connection = Connection()
        connection.send(command)
        connection.feed(data[:cut])
        first = connection.next()
        assert (first is None) == (cut < len(data))
        connection.feed(data[cut:])
        assert (first or connection.next()) == reply
        assert connection.next() is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 10**6])
def test_pipelined_replies_come_in_order_in_any_chunking(size: int) -> None:
    connection = Connection()
    for command, _ in REPLIES:
        connection.send(command)
    data = b"".join([server.encode(reply) for _, reply in REPLIES])
    got = []
    for start in range(0, len(data), size):
        connection.feed(data[start : start + size])
        while (reply := connection.next()) is not None:
            got.append(reply)
    assert got == [reply for _, reply in REPLIES]


def test_a_reply_may_end_its_lines_with_a_bare_line_feed() -> None:
    connection = Connection()
    connection.send(LEASE)
    connection.feed(b"+OK 1\n%b ping 1000 2\nab\n" % TEXT)
    assert connection.next() == r.LeasedJob(ID, b"ping", 1000, b"ab")


def test_keys_that_a_newer_server_adds_are_passed_over() -> None:
    connection = Connection()
    connection.send(c.InspectQueue(b"ping"))
    connection.feed(b"+OK 1\r\nping 4\r\nready-len 1\r\npaused\r\nscheduled-len 2\r\nleased-len 3\r\n")
    assert connection.next() == r.Queues([r.QueueInfo(b"ping", 1, 2, 3)])


def test_a_payload_of_the_largest_size_arrives_in_small_pieces() -> None:
    reply = r.LeasedJob(ID, b"ping", 1000, bytes(range(256)) * (MIB // 256))
    data = server.encode(reply)
    connection = Connection()
    connection.send(LEASE)
    for start in range(0, len(data), 4096):
        connection.feed(data[start : start + 4096])
        found = connection.next()
    assert found == reply


@pytest.mark.parametrize(
    ("command", "data", "words"),
    [
        (ADD, b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "'HTTP/1.1 400 Bad Request' is not a reply"),
        (ADD, b"\x15\x03\x01\x00\x02", "is not a reply of a Workq server"),
        (ADD, b"+" + b"x" * (MAX_LINE + 1), "is not a reply"),
        (ADD, b"+WHAT\r\n", "'+WHAT' is not a reply"),
        (ADD, b"+OK 1\r\n", "'+OK' was expected"),
        (LEASE, b"+OK\r\n", "where a number was expected"),
        (LEASE, b"+OK 2\r\n%b ping 1000 1\r\n" % TEXT, "one object was expected, not 2"),
        (LEASE, b"+OK 1\r\n%b ping 1000\r\n" % TEXT, "an object of 4 words was expected"),
        (LEASE, b"+OK 1\r\n%b p\xff 1000 1\r\na\r\n" % TEXT, "Invalid Name"),
        (c.InspectJob(ID), server.encode(r.Jobs([JOB])).replace(b"state 4", b"state 5"), "state is 0 to 4, not 5"),
        (LEASE, b"+OK 1\r\nsome-id ping 1000 1\r\na\r\n", "Invalid ID"),
        (LEASE, b"+OK 1\r\n%b ping 1000 -1\r\n" % TEXT, "where a number was expected"),
        (LEASE, b"+OK 1\r\n%b ping 1000 1048577\r\n" % TEXT, "a payload of 1048577 bytes is announced"),
        (LEASE, b"+OK 1\r\n%b ping 1000 1\r\nab\r\n" % TEXT, "'b' follows them"),
        (RESULT, b"+OK 1\r\n%b yes 0\r\n\r\n" % TEXT, "success is 0 or 1, not 'yes'"),
        (c.InspectServer(), b"+OK 1\r\nserver 1\r\nactive-clients 1\r\n", "lacks the key 'evicted-jobs'"),
        (c.InspectServer(), b"+OK 0\r\n", "one object was expected, not 0"),
        (
            c.InspectJob(ID),
            b"+OK 1\r\n%b 12\r\npayload-size 1\r\nname ping\r\n" % TEXT,
            "'payload ' was expected after payload-size",
        ),
    ],
)
def test_bytes_that_are_no_reply_are_refused_with_their_reason(command: c.Command, data: bytes, words: str) -> None:
    connection = Connection()
    connection.send(command)
    connection.feed(data)
    with pytest.raises(ProtocolError, match=re.escape(words)):
        connection.next()


@given(
    asked=st.lists(st.sampled_from([command for command, _ in COMMANDS]), min_size=1, max_size=3),
    chunks=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [b"+OK", b" 1", b"\r\n", b"-TIMEOUT\r\n", TEXT, b" ping 1000 2", b"payload-size 2\r\n", b"\n"]
            ),
            st.sampled_from([server.encode(reply) for _, reply in REPLIES]),
        )
    ),
)
def test_whatever_comes_is_a_reply_or_refused(asked: list[c.Command], chunks: list[bytes]) -> None:
    connection = Connection()
    for command in asked:
        connection.send(command)
    with contextlib.suppress(ProtocolError):
        for chunk in chunks:
            connection.feed(chunk)
            while (reply := connection.next()) is not None:
                assert isinstance(reply, r.Reply)


def test_bytes_that_nobody_asked_for_are_refused() -> None:
    connection = Connection()
    connection.feed(b"+OK\r\n")
    with pytest.raises(ProtocolError, match="without being asked"):
        connection.next()
