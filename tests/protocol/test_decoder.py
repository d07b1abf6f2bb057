"""Bytes to commands: every form of a line, every value at its edges, every mistake, in any pieces."""

import tracemalloc
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq import commands as c
from workq.protocol import server
from workq.protocol.server import Decoder, Malformed
from workq.recurrence import parse_rule
from workq.values import JobSpec, RetryPolicy

Found: TypeAlias = c.Command | Malformed

ID = b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"
NIL = b"00000000-0000-0000-0000-000000000000"
JOB_ID = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")
OTHER_ID = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")
MIB = 1_048_576


def decode(*chunks: bytes) -> list[Found]:
    """What a new connection understands of these bytes."""
    decoder = Decoder()
    found: list[Found] = []
    for chunk in chunks:
        decoder.feed(chunk)
        while (next_found := decoder.next()) is not None:
            found.append(next_found)
            if isinstance(next_found, Malformed) and next_found.fatal:
                return found
    return found


def words(*chunks: bytes) -> list[str]:
    """Of each thing understood: the name of the command, or the fixed words of the error."""
    return [
        found.text.partition(":")[0] if isinstance(found, Malformed) else type(found).__name__
        for found in decode(*chunks)
    ]


# -- commands --------------------------------------------------------------------------------------------------------

SPEC = JobSpec(b"ping", 1000, 60000)
FORMS: list[tuple[bytes, c.Command]] = [
    (b"add %b ping 1000 60000 4\r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 4\npong\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 4\r\npong\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 4\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 4\r\npong\r\n" % ID.upper(), c.Add(JOB_ID, SPEC, b"pong")),
    (b"add   %b  ping 1000   60000 4  \r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 0001000 060000 +004\r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 0\r\n\r\n" % ID, c.Add(JOB_ID, SPEC, b"")),
    (b"add %b ping 1000 60000 6\r\n\r\n\0\n\r\n\r\n" % ID, c.Add(JOB_ID, SPEC, b"\r\n\0\n\r\n")),
    (
        b"add %b ping 1000 60000 4 -priority=-7 -max-attempts=3 -max-fails=2\r\npong\r\n" % ID,
        c.Add(JOB_ID, JobSpec(b"ping", 1000, 60000, -7, 3, 2), b"pong"),
    ),
    (
        b"add -max-fails=2 %b -priority=+7=8=9 ping 1000 60000 4\r\npong\r\n" % ID,
        c.Add(JOB_ID, JobSpec(b"ping", 1000, 60000, 7, 0, 2), b"pong"),
    ),
    (b"add %b -ping 1000 60000 4\r\npong\r\n" % ID, c.Add(JOB_ID, JobSpec(b"-ping", 1000, 60000), b"pong")),
    (b"add %b ping 1000 60000 4 -delay=0\r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (b"add %b ping 1000 60000 4 -delay=70\r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong", delay_ms=70)),
    (b"add %b ping 1000 60000 4 -retry-delay=0\r\npong\r\n" % ID, c.Add(JOB_ID, SPEC, b"pong")),
    (
        b"add %b ping 1000 60000 4 -retry-delay=70 -max-fails=9\r\npong\r\n" % ID,
        c.Add(JOB_ID, JobSpec(b"ping", 1000, 60000, max_fails=9, retry=RetryPolicy(70)), b"pong"),
    ),
    (
        b"add -retry-max-delay=90000 -retry-backoff=02.50 %b ping 1000 60000 4 -retry-delay=70\r\npong\r\n" % ID,
        c.Add(JOB_ID, JobSpec(b"ping", 1000, 60000, retry=RetryPolicy(70, 2_500, 90_000)), b"pong"),
    ),
    (
        b"schedule %b ping 1000 60000 2030-01-01T12:00:00Z 4 -retry-delay=70 -retry-backoff=10\r\npong\r\n" % ID,
        c.Schedule(JOB_ID, JobSpec(b"ping", 1000, 60000, retry=RetryPolicy(70, 10_000)), 1_893_499_200_000, b"pong"),
    ),
    (
        b"schedule %b ping 1000 60000 2030-01-01T12:00:00Z 4 -priority=1\r\npong\r\n" % ID,
        c.Schedule(JOB_ID, JobSpec(b"ping", 1000, 60000, 1), 1_893_499_200_000, b"pong"),
    ),
    (
        b"schedule %b ping 1000 60000 2030-01-01T12:00:00.0019Z 4\r\npong\r\n" % ID,
        c.Schedule(JOB_ID, SPEC, 1_893_499_200_001, b"pong"),
    ),
    (
        b"schedule %b ping 1000 60000 1969-12-31T23:59:59.5Z 4\r\npong\r\n" % ID,
        c.Schedule(JOB_ID, SPEC, -500, b"pong"),
    ),
    (
        b"recur %b ping 1000 60000 every:60000 4 -priority=1 -overlap=skip\r\npong\r\n" % ID,
        c.Recur(JOB_ID, JobSpec(b"ping", 1000, 60000, 1), parse_rule("every:60000"), True, b"pong"),
    ),
    (
        b"recur %b ping 1000 60000 cron:0_9_*_*_1-5@Europe/Berlin 0 -overlap=allow\r\n\r\n" % ID,
        c.Recur(JOB_ID, SPEC, parse_rule("cron:0_9_*_*_1-5@Europe/Berlin"), False, b""),
    ),
    (b"inspect recurring 2 10\r\n", c.InspectRecurring(2, 10)),
    (
        b"run %b ping 1000 5000 4 -priority=9\r\npong\r\n" % ID,
        c.Run(JOB_ID, JobSpec(b"ping", 1000, 0, 9, foreground=True), 5000, b"pong"),
    ),
    (b"lease ping 1000\r\n", c.Lease((b"ping",), 1000)),
    (b"lease ping pong ping 0\n", c.Lease((b"ping", b"pong", b"ping"), 0)),
    (b"lease  -a  1000 \r\n", c.Lease((b"-a",), 1000)),
    (b"complete %b 2\r\nok\r\n" % ID, c.Complete(JOB_ID, b"ok")),
    (b"complete %b +02 \nok\n" % ID, c.Complete(JOB_ID, b"ok")),
    (b"complete %b 3\nok\r\n" % ID, c.Complete(JOB_ID, b"ok\r")),
    (b"fail %b 2\r\nno\r\n" % ID, c.Fail(JOB_ID, b"no")),
    (b"lease ping 1000 -attempt=1\r\n", c.Lease((b"ping",), 1000, True)),
    (b"lease ping 1000 -attempt=0\r\n", c.Lease((b"ping",), 1000)),
    (b"lease ping 1000 -count=1\r\n", c.Lease((b"ping",), 1000)),
    (b"lease -count=1000 ping pong 1000 -attempt=1\r\n", c.Lease((b"ping", b"pong"), 1000, True, 1000)),
    (b"result %b 6ba7b811-9dad-11d1-80b4-00c04fd430c8 1000\r\n" % ID, c.Results((JOB_ID, OTHER_ID), 1000)),
    (b"result %b %b %b 0\r\n" % (ID, ID.upper(), ID), c.Results((JOB_ID,) * 3, 0)),
    (b"complete %b 2 -attempt=7\r\nok\r\n" % ID, c.Complete(JOB_ID, b"ok", 7)),
    (b"complete -attempt=007 %b 2\r\nok\r\n" % ID, c.Complete(JOB_ID, b"ok", 7)),
    (b"fail %b 2 -attempt=7\r\nno\r\n" % ID, c.Fail(JOB_ID, b"no", 7)),
    (b"fail %b 2 -final=1 -attempt=4294967295\r\nno\r\n" % ID, c.Fail(JOB_ID, b"no", 2**32 - 1, True)),
    (b"fail %b 2 -final=0\r\nno\r\n" % ID, c.Fail(JOB_ID, b"no")),
    (b"touch %b\r\n" % ID, c.Touch(JOB_ID)),
    (b"touch %b -attempt=7\r\n" % ID, c.Touch(JOB_ID, 7)),
    (b"release %b\r\n" % ID, c.Release(JOB_ID)),
    (b"release %b -attempt=7 -delay=3155760000000\r\n" % ID, c.Release(JOB_ID, 3_155_760_000_000, 7)),
    (b"result %b 1000\r\n" % ID, c.Result(JOB_ID, 1000)),
    (b"delete %b\r\n" % ID, c.Delete(JOB_ID)),
    (b"progress %b 3\r\n50%%\r\n" % ID, c.Progress(JOB_ID, b"50%")),
    (b"progress %b 2 -touch=1 -attempt=7\r\n\r\n\r\n" % ID, c.Progress(JOB_ID, b"\r\n", 7, True)),
    (b"ping\r\n", c.Ping()),
    (b"quit\r\n", c.Quit()),
    (b"retry %b\r\n" % ID, c.Retry(JOB_ID)),
    (b"clear ping\r\n", c.Clear(b"ping")),
    *[(b"clear ping -state=%b\r\n" % s.encode(), c.Clear(b"ping", s)) for s in c.CLEAR_STATES],
    (b"inspect leased-jobs ping 2 10\r\n", c.InspectJobs(b"ping", "leased", 2, 10)),
    (b"inspect failed-jobs ping 2 10\r\n", c.InspectJobs(b"ping", "failed", 2, 10)),
    (b"inspect completed-jobs ping 2 10\r\n", c.InspectJobs(b"ping", "completed", 2, 10)),
    (b"queue ping\r\n", c.ConfigureQueue(b"ping")),
    (b"queue -lease-rate=5 ping  -max-len=007\n", c.ConfigureQueue(b"ping", max_len=7, lease_rate=5)),
    (
        b"queue ping -max-len=0 -max-leased=1 -lease-rate=2 -lease-burst=3 -ttr=4 -max-attempts=5 -returned=back\n",
        c.ConfigureQueue(b"ping", 0, 1, 2, 3, 4, 5, True),
    ),
    (b"queue ping -returned=front\n", c.ConfigureQueue(b"ping", to_back=False)),
    (b"pause ping\r\n", c.PauseQueue(b"ping")),
    (b"resume ping\r\n", c.ResumeQueue(b"ping")),
    (b"inspect server\r\n", c.InspectServer()),
    (b"inspect queue ping\r\n", c.InspectQueue(b"ping")),
    (b"inspect queues 2 10\r\n", c.InspectQueues(2, 10)),
    (b"inspect job %b\r\n" % ID, c.InspectJob(JOB_ID)),
    (b"inspect jobs ping 2 10\r\n", c.InspectJobs(b"ping", "ready", 2, 10)),
    (b"inspect  scheduled-jobs ping 2 10\r\n", c.InspectJobs(b"ping", "scheduled", 2, 10)),
]


@pytest.mark.parametrize(("request_bytes", "command"), FORMS)
def test_forms_of_commands(request_bytes: bytes, command: c.Command) -> None:
    assert decode(request_bytes) == [command]


@pytest.mark.parametrize(("request_bytes", "command"), FORMS)
def test_nothing_is_understood_before_the_last_byte(request_bytes: bytes, command: c.Command) -> None:
    """But then it is, whatever the pieces, and again when the line is known already."""
    for cut in range(1, len(request_bytes)):
        assert decode(request_bytes[:cut]) == []
        assert decode(request_bytes[:cut], request_bytes[cut:]) == [command]
    single_bytes = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
    assert decode(*single_bytes, *single_bytes) == [command, command]


# -- values ----------------------------------------------------------------------------------------------------------


def _add(
    id: bytes = ID,
    name: bytes = b"ping",
    ttr: bytes = b"1000",
    ttl: bytes = b"60000",
    size: bytes = b"4",
    flag: bytes = b"",
) -> bytes:
    return b"add %b %b %b %b %b%b\r\npong\r\n" % (id, name, ttr, ttl, size, b" " + flag if flag else b"")


def _schedule(time: bytes) -> bytes:
    return b"schedule %b ping 1000 60000 %b 4\r\npong\r\n" % (ID, time)


NOT_NUMBERS = [b"x", b"1x", b"0x1", b"1.0", b"1e3", b"--1", b"1_000", b"\xd9\xa1", b"9" * 40]
VALUES: dict[str, tuple[list[bytes], list[bytes]]] = {
    # error: requests with values that are allowed, requests with values that are not
    "Invalid ID": (
        [
            _add(id=ID),
            _add(id=ID.upper()),
            _add(id=NIL[:-1] + b"1"),
            _add(id=b"f" * 8 + b"-ffff-ffff-ffff-" + b"f" * 12),
        ],
        [
            _add(id=id)
            for id in [
                NIL,
                b"1",
                ID[:-1],
                ID + b"0",
                ID.replace(b"-", b""),
                b"{" + ID + b"}",
                b"urn:uuid:" + ID,
                b"urn:uuid:61a444a0-6128-41c0-8078",
                ID.replace(b"c8", b"cg"),
                ID.replace(b"c8", b"\xc3\xa9"),
                ID.replace(b"6ba7b810-", b"6ba7b81-0"),
            ]
        ],
    ),
    "Invalid Name": (
        [_add(name=b"a"), _add(name=b"n" * 255), _add(name=b"AZaz09_-."), b"lease %b 0\n" % (b"n" * 255)],
        [_add(name=name) for name in [b"n" * 256, b"a/b", b"a:b", b"\xc3\xa4", b"a\0b", b"a\tb", b'"a"', b"a\rb"]]
        + [b"lease a b/c 0\n", b"inspect queue a/b\n", b"inspect jobs a/b 0 1\n", b"inspect scheduled-jobs a/b 0 1\n"],
    ),
    "Invalid TTR": (
        [_add(ttr=b"1"), _add(ttr=b"86400000"), b"run %b ping 86400000 0 0\n\n" % ID],
        [_add(ttr=ttr) for ttr in [b"0", b"86400001", b"-1", b"+1", *NOT_NUMBERS]] + [b"run %b ping 0 0 0\n\n" % ID],
    ),
    "Invalid TTL": (
        [_add(ttl=b"1"), _add(ttl=b"18446744073709551615")],
        [_add(ttl=ttl) for ttl in [b"0", b"18446744073709551616", b"-1", b"+1", *NOT_NUMBERS]],
    ),
    "Invalid wait timeout": (
        [b"lease a 0\n", b"lease a 86400000\n", b"result %b 86400000\n" % ID, b"run %b a 1 86400000 0\n\n" % ID],
        [b"lease a %b\n" % wait for wait in [b"86400001", b"-1", b"+1", *NOT_NUMBERS]]
        + [b"result %b 86400001\n" % ID, b"run %b a 1 86400001 0\n\n" % ID],
    ),
    "Invalid Time": (
        [
            _schedule(time)
            for time in [
                b"0001-01-01T00:00:00Z",
                b"9999-12-31T23:59:59Z",
                b"2024-02-29T00:00:00Z",
                b"1970-01-01T00:00:00.000Z",
                b"2030-01-01T12:00:00.123456789Z",
            ]
        ],
        [
            _schedule(time)
            for time in [
                b"now",
                b"2030-01-01",
                b"2030-01-01T12:00:00",
                b"2030-01-01t12:00:00z",
                b"2030-01-01T12:00:00.Z",
                b"2030-01-01T12:00:00,5Z",
                b"2030-01-01T12:00:00+01:00",
                b"2030-1-01T12:00:00Z",
                b"2030-02-29T12:00:00Z",
                b"2030-01-01T24:00:00Z",
                b"2030-01-01T12:00:60Z",
                b"0000-01-01T00:00:00Z",
                b"1893499200",
            ]
        ],
    ),
    "Invalid payload size": (
        [_add(size=b"4"), _add(size=b"+4"), _add(size=b"0004"), b"add %b a 1 1 %d\n%b\n" % (ID, MIB, b"x" * MIB)],
        [_add(size=b"3"), b"add %b a 1 1 %d\n%b\n" % (ID, MIB + 1, b"x" * (MIB + 1))],
    ),
    "Invalid result size": (
        [b"fail %b 0\n\n" % ID, b"fail %b %d\n%b\n" % (ID, MIB, b"x" * MIB)],
        [b"fail %b 3\nlong\n" % ID, b"fail %b %d\n%b\n" % (ID, MIB + 1, b"x" * (MIB + 1))],
    ),
    "Invalid progress size": (
        [b"progress %b %b\n%b\n" % (ID, size, b"x" * int(size)) for size in (b"0", b"+1", b"4096")],
        [b"progress %b 4097\n%b\n" % (ID, b"x" * 4097), b"progress %b 3\nlong\n" % ID],
    ),
    "Invalid Priority": (
        [_add(flag=b"-priority=" + value) for value in [b"-2147483648", b"2147483647", b"0", b"-0", b"+1", b"007"]],
        [_add(flag=b"-priority=" + value) for value in [b"-2147483649", b"2147483648", b"+-1", *NOT_NUMBERS]],
    ),
    "Invalid Max Attempts": (
        [_add(flag=b"-max-attempts=0"), _add(flag=b"-max-attempts=255")],
        [_add(flag=b"-max-attempts=" + value) for value in [b"256", b"-1", b"+1", *NOT_NUMBERS]],
    ),
    "Invalid Max Fails": (
        [_add(flag=b"-max-fails=0"), _add(flag=b"-max-fails=255")],
        [_add(flag=b"-max-fails=" + value) for value in [b"256", b"-1", b"+1", *NOT_NUMBERS]],
    ),
    "Invalid attempt": (
        [
            *[b"touch %b -attempt=%b\n" % (ID, attempt) for attempt in (b"1", b"4294967295", b"007")],
            b"complete %b 0 -attempt=1\n\n" % ID,
            b"fail %b 0 -attempt=1\n\n" % ID,
            b"release %b -attempt=1\n" % ID,
        ],
        [
            *[b"touch %b -attempt=%b\n" % (ID, bad) for bad in (b"0", b"4294967296", b"-1", b"+1", *NOT_NUMBERS)],
            b"complete %b 0 -attempt=0\n\n" % ID,
            b"fail %b 0 -attempt=x\n\n" % ID,
            b"release %b -attempt=0\n" % ID,
        ],
    ),
    "Invalid delay": (
        [b"release %b -delay=%b\n" % (ID, delay) for delay in (b"0", b"3155760000000")]
        + [_add(flag=b"-delay=0"), _add(flag=b"-delay=3155760000000")],
        [b"release %b -delay=%b\n" % (ID, bad) for bad in (b"3155760000001", b"-1", b"+1", *NOT_NUMBERS)]
        + [_add(flag=b"-delay=3155760000001"), _add(flag=b"-delay=x")],
    ),
    "Invalid retry delay": (
        [_add(flag=b"-retry-delay=" + delay) for delay in (b"0", b"3155760000000")],
        [_add(flag=b"-retry-delay=" + bad) for bad in (b"3155760000001", b"-1", b"+1", *NOT_NUMBERS)],
    ),
    "Invalid retry backoff": (
        [
            _add(flag=b"-retry-delay=1 -retry-backoff=" + factor)
            for factor in (b"1", b"1.0", b"1.000", b"1.5", b"9.999", b"10", b"10.000", b"01")
        ],
        [
            _add(flag=b"-retry-delay=1 -retry-backoff=" + bad)
            for bad in (b"0", b"0.999", b"10.001", b"11", b"1.0000", b"1.", b".5", b"1,5", b"-2", b"+2", b"1e0", b"nan")
        ]
        + [_add(flag=b"-retry-backoff=x")],
    ),
    "Invalid retry max delay": (
        [_add(flag=b"-retry-delay=1 -retry-max-delay=" + delay) for delay in (b"0", b"3155760000000")],
        [_add(flag=b"-retry-delay=1 -retry-max-delay=" + bad) for bad in (b"3155760000001", b"-1", *NOT_NUMBERS)],
    ),
    "Invalid count": (
        [b"lease ping 0 -count=%b\n" % count for count in (b"1", b"1000", b"010")],
        [b"lease ping 0 -count=%b\n" % bad for bad in (b"0", b"1001", b"-1", b"+1", *NOT_NUMBERS)],
    ),
    **{
        f"Invalid {what}": (
            [b"queue a -%b=%b\n" % (flag, value) for value in [b"0", b"%d" % highest, b"007"]],
            [b"queue a -%b=%b\n" % (flag, value) for value in [b"%d" % (highest + 1), b"-1", b"+1", *NOT_NUMBERS]],
        )
        for what, flag, highest in [
            ("Max Len", b"max-len", 2**32 - 1),
            ("Max Leased", b"max-leased", 2**32 - 1),
            ("Lease Rate", b"lease-rate", 2**32 - 1),
            ("Lease Burst", b"lease-burst", 2**32 - 1),
        ]
    },
    "Invalid Returned": (
        [b"queue a -returned=front\n", b"queue a -returned=back\n"],
        [b"queue a -returned=Front\n", b"queue a -returned=0\n", b"queue a -returned=front,back\n"],
    ),
    "Invalid cursor offset": (
        [b"inspect queues 0 1\n", b"inspect queues 4294967295 1\n", b"inspect jobs a 4294967295 1\n"],
        [b"inspect queues %b 1\n" % cursor for cursor in [b"4294967296", b"-1", b"+1", *NOT_NUMBERS]]
        + [b"inspect jobs a x 1\n", b"inspect scheduled-jobs a x 1\n"],
    ),
    "Invalid limit": (
        [b"inspect queues 0 1\n", b"inspect queues 0 100\n", b"inspect jobs a 0 100\n"],
        [b"inspect queues 0 %b\n" % limit for limit in [b"0", b"101", b"-1", b"+1", *NOT_NUMBERS]]
        + [b"inspect jobs a 0 x\n", b"inspect scheduled-jobs a 0 x\n"],
    ),
}


@pytest.mark.parametrize("error", VALUES)
def test_values(error: str) -> None:
    allowed, not_allowed = VALUES[error]
    for request_bytes in allowed:
        assert all([isinstance(found, c.Command) for found in decode(request_bytes)]), request_bytes[:200]
    for request_bytes in not_allowed:
        assert words(request_bytes) == [error], request_bytes[:200]


@pytest.mark.parametrize("size", [b"-1", b"- 1", *NOT_NUMBERS[:-1]])
def test_a_payload_whose_size_cannot_be_read_is_taken_for_requests(size: bytes) -> None:
    line = b"complete %b %b\r\n" % (ID, size.replace(b" ", b""))
    assert words(line + b"inspect server\r\n") == ["Invalid payload size", "InspectServer"]


def test_the_results_of_a_thousand_jobs_can_be_asked_for() -> None:
    assert decode(b"result " + b"%b " % ID * 1000 + b"0\n") == [c.Results((JOB_ID,) * 1000, 0)]


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b" lease ping 0",
        b"\tlease ping 0",
        b"lease\tping\t0",
        b"LEASE ping 0",
        b"hello",
        b"put 1 2 3 4",
        b"\0",
        b"\xff\xfe",
        b"inspect",
        b"inspect everything",
        b"inspectserver",
        b"GET /",
    ],
)
def test_unknown_commands(line: bytes) -> None:
    assert words(line + b"\r\n") == ["Unknown command"]


@pytest.mark.parametrize(
    "line",
    [
        b"add",
        b"add %b ping 1000 60000" % ID,
        b"add %b ping 1000 60000 4 4" % ID,
        b"schedule %b ping 1000 60000 4" % ID,
        b"run %b ping 1000 4" % ID,
        b"lease",
        b"lease 0",
        b"complete %b" % ID,
        b"fail %b 1 1" % ID,
        b"result %b" % ID,
        b"delete",
        b"delete %b %b" % (ID, ID),
        b"touch",
        b"touch %b 1" % ID,
        b"progress %b" % ID,
        b"ping 1",
        b"quit -a=b",
        b"release",
        b"release %b 1" % ID,
        b"inspect server x",
        b"inspect queue",
        b"inspect queues 0",
        b"inspect job",
        b"inspect jobs ping 0",
        b"inspect scheduled-jobs ping 0 1 2",
        # more flags than the command has
        b"delete %b -priority=1" % ID,
        b"lease ping 0 -a=b",
        b"inspect server -a=b",
        b"result %b 0 -a=b" % ID,
        b"lease ping 0 -attempt=1 -a=b",
        # what would be several ids if they were any
        b"result %b 0 0" % ID,
        b"result x %b 0" % ID,
        b"result " + b"%b " % ID * 1001 + b"0",
        b"touch %b -a=b" % ID,
    ],
)
def test_wrong_numbers_of_arguments(line: bytes) -> None:
    assert words(line + b"\r\n") == ["Invalid command args"]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (b"-=1", "Invalid command flags"),
        (b"-priority=", "Invalid command flags"),
        (b"-=", "Invalid command flags"),
        (b"-priority==1", "Invalid command flags"),
        (b"-priority=1 -priority=1", "Invalid command flags"),
        (b"-colour=red", "Invalid command flags"),
        (b"--priority=1", "Invalid command flags"),
        (b"-Priority=1", "Invalid command flags"),
        (b"-priority=1 -max-fails=1 -max-attempts=1 -colour=red", "Invalid command args"),
        (
            b"-priority=1 -max-fails=1 -max-attempts=1 -retry-delay=1 -retry-backoff=1 -retry-max-delay=1 -delay=1",
            "Add",
        ),
        (b"-retry-backoff=2", "Invalid command flags"),
        (b"-retry-max-delay=2", "Invalid command flags"),
        (b"-priority=1=2", "Add"),
        (b"-priority", "Invalid command args"),
    ],
)
def test_flags(flags: bytes, error: str) -> None:
    assert words(_add(flag=flags))[0] == error


@pytest.mark.parametrize("value", [b"2", b"01", b"true", b"-1", b"+1"])
def test_switches_are_on_or_off(value: bytes) -> None:
    assert words(b"lease ping 0 -attempt=%b\n" % value) == ["Invalid command flags"]
    assert words(b"fail %b 0 -final=%b\n\n" % (ID, value)) == ["Invalid command flags"]


# Each request has two mistakes or more; the first in the documented order is reported.
ORDER_OF_CHECKS = [
    # flags well-formed; the command; the number of arguments; the size; the end of the payload
    (b"bogus -=1\n", "Invalid command flags"),
    (b"add -=1\n", "Invalid command flags"),
    (b"complete x -=1 y\n", "Invalid command flags"),
    (b"add x y\n", "Invalid command args"),
    (b"fail x y -a=b\n", "Invalid result size"),
    (b"fail x 2000000 -a=b\n" + b"x" * 2_000_000 + b"\n", "Invalid result size"),
    (b"fail x 3 -a=b\nlong\n", "Invalid result size"),
    (b"run x %b 0 0 3\nlong\n" % NIL, "Invalid payload size"),
    # the number of flags, their names
    (b"fail x 4 -a=b\nlong\n", "Invalid command args"),
    (b"add x ping y z 0 -a=b\n\n", "Invalid command flags"),
    # what cannot be read
    (b"add x / y z 0 -max-attempts=a -max-fails=b -priority=c\n\n", "Invalid ID"),
    (b"add %b / y z 0 -max-attempts=a -max-fails=b -priority=c\n\n" % NIL, "Invalid TTR"),
    (b"add %b / 0 z 0 -max-attempts=a -max-fails=b -priority=c\n\n" % NIL, "Invalid TTL"),
    (b"add %b / 0 0 0 -max-attempts=a -max-fails=b -priority=c\n\n" % NIL, "Invalid Max Attempts"),
    (b"add %b / 0 0 0 -max-attempts=256 -max-fails=b -priority=c\n\n" % NIL, "Invalid Max Attempts"),
    (b"add %b / 0 0 0 -max-fails=b -priority=c\n\n" % NIL, "Invalid Max Fails"),
    (b"add %b / 0 0 0 -priority=c\n\n" % NIL, "Invalid Priority"),
    (b"schedule x / y z now 0 -max-attempts=a\n\n", "Invalid ID"),
    (b"schedule %b / y z now 0 -max-attempts=a\n\n" % NIL, "Invalid TTR"),
    (b"schedule %b / 0 z now 0 -max-attempts=a\n\n" % NIL, "Invalid TTL"),
    (b"schedule %b / 0 0 now 0 -max-attempts=a\n\n" % NIL, "Invalid Time"),
    (b"schedule %b / 0 0 2001-01-01T00:00:00Z 0 -max-attempts=a\n\n" % NIL, "Invalid Max Attempts"),
    (b"add %b / 0 0 0 -max-attempts=a -delay=x\n\n" % NIL, "Invalid delay"),
    (b"add %b / 0 0 0 -retry-delay=x -priority=c\n\n" % NIL, "Invalid Priority"),
    (b"add %b / 0 0 0 -retry-delay=x -retry-backoff=x -retry-max-delay=x\n\n" % NIL, "Invalid retry delay"),
    (b"add %b / 0 0 0 -retry-backoff=x -retry-max-delay=x\n\n" % NIL, "Invalid retry backoff"),
    (b"add %b / 0 0 0 -retry-max-delay=x\n\n" % NIL, "Invalid retry max delay"),
    (b"add %b / 0 0 0 -retry-max-delay=1\n\n" % NIL, "Invalid command flags"),
    (b"run x / y z 0 -priority=c\n\n", "Invalid ID"),
    (b"run %b / y z 0 -priority=c\n\n" % NIL, "Invalid TTR"),
    (b"run %b / 0 z 0 -priority=c\n\n" % NIL, "Invalid Priority"),
    (b"run %b / 0 z 0\n\n" % NIL, "Invalid wait timeout"),
    (b"run %b / 0 86400001 0\n\n" % NIL, "Invalid wait timeout"),
    (b"result x y\n", "Invalid ID"),
    (b"result %b y\n" % NIL, "Invalid wait timeout"),
    (b"lease / x\n", "Invalid wait timeout"),
    (b"lease / x -attempt=x\n", "Invalid command flags"),
    (b"lease / x -count=0\n", "Invalid count"),
    (b"result %b %b x\n" % (NIL, NIL), "Invalid wait timeout"),
    (b"result %b %b 0\n" % (ID, NIL), "Invalid ID"),
    (b"release x -delay=x -attempt=x\n", "Invalid ID"),
    (b"release %b -delay=x -attempt=x\n" % NIL, "Invalid delay"),
    (b"release %b -attempt=x\n" % NIL, "Invalid attempt"),
    (b"release %b\n" % NIL, "Invalid ID"),
    (b"touch %b -attempt=0\n" % NIL, "Invalid attempt"),
    (b"complete %b 0 -attempt=0\n\n" % NIL, "Invalid attempt"),
    (b"fail %b 0 -attempt=0 -final=2\n\n" % NIL, "Invalid command flags"),
    (b"add %b / 99999999999999999999 1 0\n\n" % ID, "Invalid Name"),
    (b"add %b / 100000000000000000000 1 0\n\n" % ID, "Invalid TTR"),
    # what is out of range
    (b"add %b / 0 0 0\n\n" % NIL, "Invalid ID"),
    (b"add %b / 0 0 0\n\n" % ID, "Invalid Name"),
    (b"add %b ping 0 0 0\n\n" % ID, "Invalid TTR"),
    (b"add %b ping 86400001 0 0\n\n" % ID, "Invalid TTR"),
    (b"add %b ping 1 0 0\n\n" % ID, "Invalid TTL"),
    (b"schedule %b / 0 0 2001-01-01T00:00:00Z 0\n\n" % NIL, "Invalid ID"),
    (b"schedule %b / 0 0 2001-01-01T00:00:00Z 0\n\n" % ID, "Invalid Name"),
    (b"schedule %b ping 0 0 2001-01-01T00:00:00Z 0\n\n" % ID, "Invalid TTR"),
    (b"schedule %b ping 1 0 2001-01-01T00:00:00Z 0\n\n" % ID, "Invalid TTL"),
    (b"run %b / 0 0 0\n\n" % NIL, "Invalid ID"),
    (b"run %b / 0 0 0\n\n" % ID, "Invalid Name"),
    (b"run %b ping 0 0 0\n\n" % ID, "Invalid TTR"),
    (b"inspect jobs / x y\n", "Invalid Name"),
    (b"inspect jobs ping x y\n", "Invalid cursor offset"),
    (b"inspect scheduled-jobs ping 0 y\n", "Invalid limit"),
    (b"inspect nothing -a=b\n", "Unknown command"),
    (b"inspect queue -a=b\n", "Invalid command args"),
    (b"inspect queue / -a=b\n", "Invalid command args"),
]


@pytest.mark.parametrize(("request_bytes", "error"), ORDER_OF_CHECKS)
def test_of_several_mistakes_the_first_in_order_is_reported(request_bytes: bytes, error: str) -> None:
    assert words(request_bytes + b"inspect server\n") == [error, "InspectServer"]


@pytest.mark.parametrize("error", VALUES)
def test_errors_are_one_printable_line(error: str) -> None:
    for request_bytes in VALUES[error][1]:
        (found,) = decode(request_bytes)
        assert isinstance(found, Malformed)
        assert found.text.isascii()
        assert found.text.isprintable()
        assert len(found.text) < 300


# -- framing ---------------------------------------------------------------------------------------------------------

NEXT = b"inspect server\r\n"


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 5 * MIB])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_oversized_payload_is_thrown_away_as_it_comes(size: int, end: bytes) -> None:
    decoder = Decoder()
    decoder.feed(b"add %b ping 1 1 %d\r\n" % (ID, size))
    assert isinstance(decoder.next(), Malformed)
    for _ in range(size // 65_536):
        decoder.feed(b"x" * 65_536)
        assert decoder.next() is None
        assert decoder.buffered() == 0
    decoder.feed(b"x" * (size % 65_536) + end + NEXT)
    assert decoder.next() == c.InspectServer()
    assert decoder.next() is None


@pytest.mark.parametrize(("size", "fatal"), [(64 * MIB, False), (64 * MIB + 1, True), (2**64, True), (10**30, True)])
def test_a_monstrous_payload_ends_the_connection(size: int, fatal: bool) -> None:
    (found,) = decode(b"add %b ping 1 1 %d\r\n" % (ID, size))
    assert isinstance(found, Malformed)
    assert found.fatal == fatal


@pytest.mark.parametrize(
    ("request_bytes", "found"),
    [
        (b"complete %b 4\r\nlonger\r\n" % ID, ["Invalid payload size"]),
        (b"complete %b 4\r\nlong\rer\r\n" % ID, ["Invalid payload size"]),
        (b"complete %b 0\r\nx\n" % ID, ["Invalid payload size"]),
        # the line end is taken for the payload, and the next request for its line end
        (b"complete %b 7\r\nshort\r\n" % ID, []),
        # bad values, and flags: the payload is skipped all the same
        (b"complete 1 14\r\ninspect server\r\n", ["Invalid ID"]),
        (b"complete %b 14 -=\r\ninspect server\r\n" % ID, ["Invalid command flags"]),
        (b"add %b / 1 1 14\r\ninspect server\r\n" % ID, ["Invalid Name"]),
    ],
)
def test_a_payload_in_error_is_skipped(request_bytes: bytes, found: list[str]) -> None:
    assert words(request_bytes) == found
    if found:
        assert words(request_bytes + NEXT) == [*found, "InspectServer"]


def test_a_payload_shorter_than_announced_takes_what_follows() -> None:
    assert words(b"complete %b 9\r\nhello\r\n" % ID + NEXT + NEXT) == ["Invalid payload size", "InspectServer"]


def test_the_longest_line() -> None:
    longest = b"lease ping 0" + b" " * (65_536 - 12)
    assert words(longest + b"\n" + NEXT) == ["Lease", "InspectServer"]
    for too_long in (longest + b" \n", longest + b" ", b"x" * 1_000_000):
        assert decode(too_long)[0] == Malformed("Invalid command: its line is longer than 65536 bytes", fatal=True)


def test_an_http_request_ends_the_connection() -> None:
    for line in (b"GET / HTTP/1.1", b"POST /?-a==b HTTP/1.0", b"GET / -=1 HTTP/1.1"):
        (found,) = decode(line + b"\r\n")
        assert isinstance(found, Malformed)
        assert found.fatal
        assert found.text.startswith("Unknown command: ")


# -- any pieces, any memory ------------------------------------------------------------------------------------------

_odd = st.sampled_from(
    [b"", b"-", b"x", b"0", b"00", b"-1", b"+4", b"4", b"255", b"256", b"/", b"a.b", b"\0", b"\r", b"\xff", NIL, ID]
)
_flag = st.sampled_from([b"-priority=1", b"-priority=-2", b"-max-fails=3", b"-max-attempts=x", b"-a=b", b"-=", b"-a"])
_blank = st.sampled_from([b" ", b" ", b" ", b"  "])
_end = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """A request as in `FORMS`, sometimes with a word changed, a flag more, or a byte lost."""
    line, _, payload = draw(st.sampled_from(FORMS))[0].partition(b"\n")
    parts = line.rstrip(b"\r ").split()
    for _ in range(draw(st.integers(0, 2))):
        change = draw(st.integers(0, 3))
        at = draw(st.integers(0, len(parts) - 1))
        if change == 0:
            parts[at] = draw(_odd)
        elif change == 1:
            parts.insert(at + 1, draw(_flag))
        elif change == 2:
            del parts[at]
            parts = parts or [b""]
        else:
            payload = draw(st.binary(max_size=6)) + payload
    return draw(_blank).join(parts) + draw(_end) + payload


@given(st.lists(_requests(), max_size=6), st.data())
def test_whole_input_is_understood_as_in_any_pieces(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    whole = decode(stream)
    assert decode(*[stream[at : at + 1] for at in range(len(stream))]) == whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == whole


@given(st.lists(_requests(), min_size=1, max_size=3))
def test_a_line_means_the_same_when_it_is_remembered(requests: list[bytes]) -> None:
    stream = b"".join(requests)
    for memory in server._MEMORIES.values():
        memory.lines.clear()
    first = decode(stream)
    assert decode(stream) == first


def test_remembered_lines_do_not_fill_the_memory() -> None:
    """Lines are remembered for the next one like it. Long ones, all different, are not worth it."""
    tracemalloc.start()
    try:
        for number in range(60):
            decode(b"lease ping %b%d\n" % (b"0" * 60_000, number))
            decode(b"add %b ping %b%d 1 0\n\n" % (ID, b"0" * 60_000, number + 1))
            decode(b"complete %b %b0%b\n\n" % (ID, b" " * number, b" " * 60_000))
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()


def test_remembered_lines_are_not_too_many() -> None:
    for number in range(server.MAX_REMEMBERED + 100):
        assert decode(b"lease ping %d\n" % number) == [c.Lease((b"ping",), number)]
        assert len(server._leases.lines) <= server.MAX_REMEMBERED


@pytest.mark.parametrize(
    "line",
    [
        b"inspect leased-jobs ping 150000 1\r\n",
        b"result %b %b 0\r\n" % (ID, ID),
        b"queue ping -ttr=1000\r\n",
        b"lease %b 0\r\n" % b" ".join([b"queue-%d" % number for number in range(65)]),
        b"recur %b ping 1000 60000 every:60000 0\r\n\r\n" % ID,
    ],
)
def test_what_may_take_long_is_the_last_that_is_taken(line: bytes) -> None:
    """A page from the middle of 300 000 jobs takes 10 ms: 64 in a row would keep all others waiting."""
    decoder = Decoder()
    decoder.feed(b"ping\r\n" + line * 3 + b"ping\r\nping\r\n")
    assert [len(decoder.take()) for _ in range(5)] == [2, 1, 1, 2, 0]
