"""`bin/bench http` works. Figures are not looked at."""

import re
import shutil

import pytest

from tests.bench.test_bench import bench


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_the_doors_are_measured() -> None:
    done = bench("http", "--only", "doors", "--server", "workq-pure", "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^bare handler +[\d,]+ +1\.00", done.stdout, re.M), done.stdout
    for door in ("hq", "fireworq"):
        row = rf"^{door} \(workq-pure\) +[\d,]+ +[\d.]+ +[\d,]+ +[\d.]+x +[\d.]+x"
        assert re.search(row, done.stdout, re.M), done.stdout
    assert re.search(r"^native \(workq-pure\) +[\d,]+ +[\d.]+ +[\d,]+ *$", done.stdout, re.M), done.stdout


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_latency_and_idle_jobs_are_measured() -> None:
    short = ("--server", "workq-pure", "--seconds", "0.2", "--rounds", "1", "--waiting", "50")
    done = bench("http", "--only", "latency", "--only", "idle", *short)
    assert done.returncode == 0, done.stderr
    for connections in ("1 TCP connection", "64 TCP connections"):
        for part in ("50%", "100%"):
            row = rf"^{connections} \(workq-pure\) +{part} +[\d,]+ +[\d,]+ +[\d,]+ +[\d.]+ +[\d.]+$"
            assert re.search(row, done.stdout, re.M), done.stdout
    assert re.search(r"^50 jobs throttled \(workq-pure\) +[\d.]+ +[\d.]+$", done.stdout, re.M), done.stdout


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_server_that_is_not_there_is_named() -> None:
    done = bench("http", "--server", "nothing")
    assert done.returncode == 1
    assert "--server nothing: not one of workq-" in done.stderr


@pytest.mark.skipif(shutil.which("mariadbd") is None, reason="needs mariadb-server")
def test_mariadb_is_the_yardstick() -> None:
    done = bench("http", "--only", "mariadb", "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^MariaDB, 64 connections +[\d,]+$", done.stdout, re.M), done.stdout
