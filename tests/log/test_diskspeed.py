"""The event loop waits for a disk only while that is fast, and loses next to nothing when it was wrong about it."""

from workq.log.diskspeed import DiskSpeed

QUICK_S = 0.0001
STALL_S = 0.05


def tried() -> DiskSpeed:
    """A disk that has been fast so far, in the thread."""
    speed = DiskSpeed()
    for _ in range(20):
        speed.took_in_thread(QUICK_S)
    return speed


def test_a_disk_nobody_knows_is_not_waited_for() -> None:
    speed = DiskSpeed()
    assert not speed.is_fast(0)
    speed.took_in_thread(QUICK_S)
    assert not speed.is_fast(0)


def test_a_disk_that_is_fast_in_the_thread_is_waited_for() -> None:
    speed = tried()
    assert speed.is_fast(0)
    for now in range(100):
        speed.took_in_loop(QUICK_S, now)
        assert speed.is_fast(now)


def test_a_thread_that_was_held_up_says_nothing_about_the_disk() -> None:
    speed = DiskSpeed()
    for number in range(20):
        speed.took_in_thread(QUICK_S if number == 7 else 1.0)
    assert speed.is_fast(0)


def test_a_slow_disk_is_never_waited_for() -> None:
    speed = DiskSpeed()
    for now in range(1000):
        speed.took_in_thread(0.004)
        assert not speed.is_fast(now)


def test_one_stall_is_enough() -> None:
    speed = tried()
    assert speed.is_fast(100)
    speed.took_in_loop(STALL_S, 100)
    for _ in range(50):
        speed.took_in_thread(QUICK_S)
    assert not speed.is_fast(100)
    assert not speed.is_fast(100 + 99 * STALL_S)
    assert speed.is_fast(100 + 100 * STALL_S)


def test_a_disk_that_becomes_slower_is_left_to_the_thread() -> None:
    speed = tried()
    waited = 0
    while speed.is_fast(waited):
        speed.took_in_loop(0.001, waited)
        waited += 1
        assert waited < 10


def test_after_a_stall_the_disk_has_to_show_that_it_is_fast() -> None:
    speed = tried()
    assert speed.is_fast(0)
    speed.took_in_loop(STALL_S, 0)
    for _ in range(20):
        speed.took_in_thread(STALL_S)
    assert not speed.is_fast(1000)
    speed.took_in_thread(QUICK_S)
    assert speed.is_fast(1000)


def lost(stall_every: int, until_s: float) -> float:
    """The time that the loop loses, as a part of all, to a disk that stalls in every so-many-th sync in the loop."""
    speed = DiskSpeed()
    now_s = lost_s = 0.0
    syncs = 0
    while now_s < until_s:
        if speed.is_fast(now_s):
            syncs += 1
            took_s = STALL_S if syncs % stall_every == 0 else QUICK_S
            lost_s += took_s if took_s == STALL_S else 0
            now_s += took_s
            speed.took_in_loop(took_s, now_s)
        else:
            now_s += 0.001
            speed.took_in_thread(QUICK_S)
    return lost_s / until_s


def test_what_the_loop_loses_is_little() -> None:
    assert 0 < lost(1, 1000) < 0.001  # it always stalls in the loop
    assert 0 < lost(100, 1000) < 0.001
    assert 0 < lost(2000, 1000) < 0.01
