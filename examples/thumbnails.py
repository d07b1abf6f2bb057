"""A worker that makes thumbnails of PPM images, each in a process of its own, as work for the processor should be.

    .venv/bin/python examples/thumbnails.py

and in another terminal:

    bin/workq run thumbnail @photo.ppm > small.ppm
"""

import logging
import re

import workq

SIDE = 64
HEADER = re.compile(rb"P6\s+([1-9]\d*)\s+([1-9]\d*)\s+255\s")

worker = workq.Worker()


@worker.job("thumbnail", concurrency=2, processes=True)
def thumbnail(image: bytes) -> bytes:
    """Scale an image down until it fits into a square of 64 pixels."""
    header = HEADER.match(image)
    if header is None:
        raise workq.Reject("this is not a PPM image with 8 bits a colour")
    width, height, pixels = int(header[1]), int(header[2]), image[header.end() :]
    if len(pixels) != 3 * width * height:
        raise workq.Reject(f"{width} x {height} pixels are announced, but not there")

    step = max(1, -(-max(width, height) // SIDE))
    columns, rows = range(0, width, step), range(0, height, step)
    scaled = b"".join([pixels[3 * (y * width + x) :][:3] for y in rows for x in columns])
    return b"P6 %d %d 255\n%b" % (len(columns), len(rows), scaled)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    worker.run()
