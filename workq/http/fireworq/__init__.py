"""The Fireworq door: jobs are pushed to a category, which is routed to a queue, which sends them to their URLs.

door.py         the requests, and what they are answered
pushes.py       the one that is asked for most: a new job
definitions.py  queues and routings, kept as documents
queue_log.py    what happens to jobs, line by line
numbers.py      the numbers that jobs have in their queue
bodies.py       JSON in requests and answers
structs.py      what is in it
jobs.py         a job and a failure as the API shows them, and what the engine is told
listing.py      pages of jobs, in the order of their next try

Where documents and code of the original disagree, this follows what its users can rely on: see
`doc/coming-from-fireworq.md`.
"""

from workq.http.fireworq.door import FireworqDoor

__all__ = ["FireworqDoor"]
