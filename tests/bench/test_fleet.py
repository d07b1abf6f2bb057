"""`bin/bench fleet` works. Figures are not looked at."""

import re

from tests.bench.test_bench import bench


def test_what_a_fleet_costs_is_measured() -> None:
    few = ("--jobs", "1600", "--rounds", "1", "--leasers", "10", "--waiting", "300", "--idle", "0.1")
    done = bench("fleet", *few)
    assert done.returncode == 0, done.stderr
    for row in (
        r"100 leases, 1 at once +[\d.]+ us",
        r"lease -count=100, 16 at once +[\d.]+ us",
        r"bulk / single, 16 at once +[\d.]+",
        r"touch / complete +[\d.]+",
        r" +10 wait +[\d.]+ us +\d+ us",
        r"no jobs +[\d.]+",
        r"300 jobs, paced +[\d.]+",
    ):
        assert re.search(f"^{row}$", done.stdout, re.M), done.stdout


def test_who_may_not_open_so_many_files_is_told() -> None:
    done = bench("fleet", "--leasers", str(10**10))
    assert done.returncode == 1
    assert "need 10000000100 open files, the limit is" in done.stderr
