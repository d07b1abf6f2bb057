"""Replies to bytes: each kind has its one form."""

import pytest

from workq import replies as r
from workq.protocol.server import encode
from workq.values import QueueOptions

ID = b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"
JOB_ID = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")
QUEUE = r.QueueInfo(
    b"a", 1, 2, 3, 4, 5, 6, 7, QueueOptions(1, 2, 3, 4, 5, 6, True, True), r.QueueTotals(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
)
JOB_NUMBERS = (3, 2, 5, 1, -7, 4, 1_893_499_200_999, 0)
JOB = r.JobInfo(JOB_ID, b"ping", 1000, 60000, b"a\r\nb", *JOB_NUMBERS)
JOB_TABLE = b"\r\n".join(
    [
        b"name ping",
        b"ttr 1000",
        b"ttl 60000",
        b"payload-size 4",
        b"payload a\r\nb",
        b"max-attempts 3",
        b"attempts 2",
        b"max-fails 5",
        b"fails 1",
        b"priority -7",
        b"state 4",
        b"created 2030-01-01T12:00:00Z\r\n",
    ]
)
SCHEDULED = r.JobInfo(bytes(15) + b"\1", b"q", 1, 2**64 - 1, b"", 0, 0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("reply", "encoded"),
    [
        (r.OK, b"+OK\r\n"),
        (r.TIMED_OUT, b"-TIMEOUT\r\n"),
        (r.NOT_FOUND, b"-NOT-FOUND\r\n"),
        (r.DUPLICATE_JOB, b"-CLIENT-ERROR Duplicate job\r\n"),
        (r.DUPLICATE_RESULT, b"-CLIENT-ERROR Duplicate result\r\n"),
        (r.Refused("Invalid TTR: '0'"), b"-CLIENT-ERROR Invalid TTR: '0'\r\n"),
        (r.Unavailable("disk full"), b"-SERVER-ERROR disk full\r\n"),
        (r.LeasedJob(JOB_ID, b"ping", 1000, b"pong"), b"+OK 1\r\n%b ping 1000 4\r\npong\r\n" % ID),
        (r.LeasedJob(JOB_ID, b"ping", 1000, b""), b"+OK 1\r\n%b ping 1000 0\r\n\r\n" % ID),
        (r.LeasedJob(JOB_ID, b"p", 1, b"\0\r\n\xff"), b"+OK 1\r\n%b p 1 4\r\n\0\r\n\xff\r\n" % ID),
        (r.LeasedJob(JOB_ID, b"p", 1, b"pong", b"meta", 7), b"+OK 1\r\n%b p 1 4 7\r\npong\r\n" % ID),
        (
            r.LeasedJobs([r.LeasedJob(JOB_ID, b"p", 1, b"a\r\n"), r.LeasedJob(JOB_ID, b"q", 2, b"")]),
            b"+OK 2\r\n%b p 1 3\r\na\r\n\r\n%b q 2 0\r\n\r\n" % (ID, ID),
        ),
        (r.LeasedJobs([r.LeasedJob(JOB_ID, b"p", 1, b"a", attempt=9)]), b"+OK 1\r\n%b p 1 1 9\r\na\r\n" % ID),
        (
            r.JobResults([r.JobResult(JOB_ID, True, b"ok"), r.JobResult(JOB_ID, False, b"")]),
            b"+OK 2\r\n%b 1 2\r\nok\r\n%b 0 0\r\n\r\n" % (ID, ID),
        ),
        (r.LEASE_EXPIRED, b"-CLIENT-ERROR Lease expired: this attempt does not hold the job any more\r\n"),
        (r.JobResult(JOB_ID, True, b"ok"), b"+OK 1\r\n%b 1 2\r\nok\r\n" % ID),
        (r.JobResult(JOB_ID, False, b""), b"+OK 1\r\n%b 0 0\r\n\r\n" % ID),
        (
            r.ServerInfo(3, 2, 1_893_499_200_999),
            b"+OK 1\r\nserver 3\r\nactive-clients 3\r\nevicted-jobs 2\r\nstarted 2030-01-01T12:00:00Z\r\n",
        ),
        (r.Queues([]), b"+OK 0\r\n"),
        (
            r.Queues([QUEUE]),
            b"+OK 1\r\na 25\r\nready-len 1\r\nscheduled-len 2\r\nleased-len 3\r\nfailed-len 4\r\ncompleted-len 5\r\n"
            b"waiting-leasers 6\r\noldest-ready-age 7\r\npaused 1\r\n"
            b"max-len 1\r\nmax-leased 2\r\nlease-rate 3\r\nlease-burst 4\r\n"
            b"ttr 5\r\nmax-attempts 6\r\nreturned back\r\n"
            b"total-added 1\r\ntotal-leased 2\r\ntotal-completed 3\r\ntotal-failed 4\r\ntotal-returned 5\r\n"
            b"total-expired 6\r\ntotal-deleted 7\r\n"
            b"added-per-minute 8\r\nleased-per-minute 9\r\nfinished-per-minute 10\r\n",
        ),
        (r.Jobs([]), b"+OK 0\r\n"),
        (
            r.Jobs([r.JobInfo(JOB_ID, b"ping", 1000, 60000, b"a\r\nb", *JOB_NUMBERS, progress=b"50%\r\n \xff~")]),
            b"+OK 1\r\n%b 13\r\n%bprogress 50%%25%%0D%%0A %%FF~\r\n" % (ID, JOB_TABLE),
        ),
        (r.Jobs([JOB]), b"+OK 1\r\n%b 12\r\n%b" % (ID, JOB_TABLE)),
        (
            r.Jobs([JOB, SCHEDULED]),
            b"+OK 2\r\n%b 12\r\n%b"
            % (ID, JOB_TABLE)
            + b"00000000-0000-0000-0000-000000000001 13\r\nname q\r\nttr 1\r\nttl 18446744073709551615\r\n"
            b"payload-size 0\r\npayload \r\nmax-attempts 0\r\nattempts 0\r\nmax-fails 0\r\nfails 0\r\npriority 0\r\n"
            b"state 0\r\ncreated 1970-01-01T00:00:00Z\r\ntime 1970-01-01T00:00:00Z\r\n",
        ),
        (
            r.RecurringJobs(
                [r.RecurringInfo(JOB_ID, b"q", 1, 2, b"x", 3, 4, 5, "every:100", True, 6, 7, 0, 1, JOB_ID)]
            ),
            b"+OK 1\r\n%b 14\r\nname q\r\nttr 1\r\nttl 2\r\npayload-size 1\r\npayload x\r\nmax-attempts 3\r\n"
            b"max-fails 4\r\npriority 5\r\nrule every:100\r\noverlap skip\r\noccurrences 6\r\nskipped 7\r\n"
            b"last 1970-01-01T00:00:00Z\r\nlast-id %b\r\n" % (ID, ID),
        ),
    ],
)
def test_forms_of_replies(reply: r.Reply, encoded: bytes) -> None:
    assert encode(reply) == encoded


def test_a_reply_without_a_form_is_a_fault_of_the_program() -> None:
    with pytest.raises(TypeError, match="the protocol has no form for Reply"):
        encode(r.Reply())
