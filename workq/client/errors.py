"""What can go wrong for a caller, as one small tree.

WorkqError
    ClientError       the request was wrong: the server refused it, or it was caught before sending
    ServerError       the server cannot do it now, or is no Workq server
    Timeout           the wait ended without a job or a result
    NotFound          there is no such job or queue
    ConnectionLost    the server cannot be reached, or went away before it answered
"""


class WorkqError(Exception):
    """Base of everything the clients raise.

    text    what is wrong, in the server's words where it said it
    server  the address of the server, such as ``workq://127.0.0.1:9922``
    action  what was tried, such as ``add``
    job_id  the job it was about, or None

    Example::

        try:
            client.complete(job.id, b"done")
        except workq.WorkqError as error:
            print(error, error.job_id)
    """

    def __init__(self, text: str, server: str = "", action: str = "", job_id: str | None = None) -> None:
        super().__init__(text, server, action, job_id)  # all of them, so that the error can be pickled
        self.text = text
        self.server = server
        self.action = action
        self.job_id = job_id

    def __str__(self) -> str:
        job = f"job {self.job_id}" if self.job_id else ""
        doing = " ".join([part for part in (self.action, job) if part])
        return ": ".join([part for part in (self.server, doing, self.text) if part])


class ClientError(WorkqError):
    """The request was wrong: a value out of range, a payload over 1 MiB, an id that exists already.

    What can be known before sending is caught before sending; the rest is the server's refusal in its words.

    Example::

        try:
            client.add("resize", b"photo.jpg", id=upload_id)
        except workq.ClientError as error:
            assert error.text.startswith("Duplicate job")
    """


class ServerError(WorkqError):
    """The server cannot do it now, or what answers at the address is no Workq server.

    Example::

        try:
            client.add("resize", b"photo.jpg")
        except workq.ServerError as error:
            print("nothing was added:", error.text)
    """


class Timeout(WorkqError):
    """The wait ended: no job to lease, or no result yet, within `timeout` seconds. The connection is fine.

    Example::

        try:
            job = client.lease("resize", timeout=5)
        except workq.Timeout:
            print("nothing to do")
    """


class NotFound(WorkqError):
    """There is no such job (finished and gone, deleted, at the end of its TTL, never there) or queue.

    Example::

        try:
            client.delete(job_id)
        except workq.NotFound:
            pass
    """


class ConnectionLost(WorkqError):
    """The server cannot be reached, or the connection broke before it answered.

    outcome_unknown  True if the request was sent, so that the server may have done it. `add` with the same id is
                     safe to repeat then: the answer ``Duplicate job`` tells that it was done.

    Example::

        try:
            client.add("resize", b"photo.jpg")
        except workq.ConnectionLost as error:
            if error.outcome_unknown:
                print("ask again later about", error.job_id)
    """

    def __init__(
        self,
        text: str,
        server: str = "",
        action: str = "",
        job_id: str | None = None,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(text, server, action, job_id)
        self.args = (*self.args, outcome_unknown)
        self.outcome_unknown = outcome_unknown
