"""The HQ door: the API of HQ on our jobs.

door.py      its requests and answers
job.py       the job object: what is pushed, what is told
ids.py       ids that grow with time
store.py     where a job is: in the engine until it has finished, in the archive from then on
listing.py   filters, and the page of a list
"""

from workq.http.hq.door import HqDoor

__all__ = ["HqDoor"]
