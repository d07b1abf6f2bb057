"""A log is read back whole, cut off where a crash tore it, and refused where it is damaged."""

import os
import re
import shutil
import uuid
import zlib
from pathlib import Path
from random import Random

import pytest

from tests.log.disks import MemoryFiles, segment_files
from tests.log.logs import SEGMENT_SIZE, opened, quietly, reopened, written
from tests.log.states import START_MS, snapshot
from workq.engine.events import Completed, Counters, Deleted, Leased
from workq.engine.state import State
from workq.log import LogError
from workq.log.errors import Damage, DirectoryInUse, UnknownFormat
from workq.log.files import Files
from workq.log.records import SYNCED_BYTES, encode
from workq.log.replay import replay
from workq.log.segments import HEADER_SIZE, Header

TURNS = 60


def read(where: Path | Files) -> State:
    state = State(START_MS)
    replay(where if isinstance(where, Files) else Files(where), state, quietly)
    return state


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    return Random(request.node.name)


class TestGoodEnd:
    def test_a_log_gives_back_the_state_that_was_told_to_it(self, tmp_path: Path, random: Random) -> None:
        log, snapshots = written(tmp_path, random, TURNS)
        log.close()
        assert len(segment_files(tmp_path)) > 2
        assert snapshot(reopened(tmp_path)) == snapshots[-1]

    def test_without_a_close_it_does_so_too(self, tmp_path: Path, random: Random) -> None:
        log, snapshots = written(tmp_path, random, TURNS)
        log.abandon()
        assert snapshot(reopened(tmp_path)) == snapshots[-1]

    def test_nothing_is_left_behind_the_end_of_a_log_that_was_closed(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        for name in segment_files(tmp_path):
            assert (tmp_path / name).stat().st_size < SEGMENT_SIZE + 2000

    def test_progress_is_told_in_bytes(self, tmp_path: Path) -> None:
        state = State(START_MS)
        log = opened(tmp_path, state)
        deletion = encode([Counters(1, 0)])
        log.append(deletion * 40_000, b"")
        log.close()
        told: list[tuple[int, int]] = []
        replay(Files(tmp_path), State(START_MS), lambda done, total: told.append((done, total)))
        assert [total for _, total in told] == [told[0][1]] * 2
        assert 0 < told[0][0] < told[1][0] < told[1][1]

    def test_an_empty_directory_holds_no_log(self, tmp_path: Path) -> None:
        assert replay(Files(tmp_path), State(START_MS), quietly) is None


class TestTornEnd:
    def test_cut_at_any_byte_of_the_last_segment(self, tmp_path: Path, random: Random) -> None:
        log, snapshots = written(tmp_path, random, TURNS)
        end = log.total_bytes - sum(log.ends.values())
        log.abandon()
        files = MemoryFiles.read_from(tmp_path)
        last = files.open(segment_files(tmp_path)[-1], write=True)
        for length in reversed(range(end + 10)):
            files.truncate(last, length)
            now = snapshot(read(files))
            if length >= end:
                assert now == snapshots[-1]
            while now != snapshots[-1]:  # never one that was already left behind
                snapshots.pop()

    def test_what_is_cut_off_is_said_once(
        self, tmp_path: Path, random: Random, caplog: pytest.LogCaptureFixture
    ) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        last = tmp_path / segment_files(tmp_path)[-1]
        end = last.stat().st_size
        with last.open("ab") as file:
            file.write(b"\x20\0\0\0torn")
        before = snapshot(reopened(tmp_path))
        assert [record.getMessage() for record in caplog.records] == [
            f"the last 8 bytes of the log were not written to their end, from offset {end} in {last.name} on: cut off"
        ]
        assert snapshot(reopened(tmp_path)) == before
        assert len(caplog.records) == 1

    def test_a_last_segment_that_is_empty_is_told(
        self, tmp_path: Path, random: Random, caplog: pytest.LogCaptureFixture
    ) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        last = tmp_path / segment_files(tmp_path)[-1]
        os.truncate(last, 0)
        reopened(tmp_path)
        assert [record.getMessage() for record in caplog.records] == [
            f"the end of the log, {last.name}, is empty: removed"
        ]

    def test_old_bytes_do_not_come_back_behind_new_ones(self, tmp_path: Path) -> None:
        opened(tmp_path, State(START_MS)).close()
        segment = tmp_path / segment_files(tmp_path)[-1]
        new, old = encode([Counters(7, 3)]), encode([Counters(9, 99)])
        # What is appended next ends where the old record begins.
        segment.write_bytes(segment.read_bytes() + b"x" * (SYNCED_BYTES + len(new)) + old)
        log = opened(tmp_path, State(START_MS))
        log.append(new, b"")
        log.abandon()
        assert read(tmp_path).evicted_jobs == 3

    def test_a_first_segment_without_a_whole_header_is_begun_again(self, tmp_path: Path) -> None:
        for length in range(HEADER_SIZE):
            opened(tmp_path, State(START_MS)).close()
            os.truncate(tmp_path / "0000000001.seg", length)
            assert not reopened(tmp_path).jobs
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()


class TestDamage:
    def test_any_byte_changed_is_noticed_or_makes_no_difference(self, tmp_path: Path, random: Random) -> None:
        log, snapshots = written(tmp_path, random, TURNS * 2 // 5)
        log.close()
        tried = noticed = unnoticed = 0
        files = MemoryFiles.read_from(tmp_path)
        for name, content in files.contents.items():
            file = files.open(name, write=True)
            for offset, byte in enumerate(content):
                files.write(file, bytes([byte ^ 1 << random.randrange(8)]), offset)
                try:
                    state = read(files)
                except Damage as damage:
                    noticed += damage.offset <= offset
                else:
                    unnoticed += snapshot(state) == snapshots[-1]
                files.write(file, bytes([byte]), offset)
                tried += 1
        assert noticed + unnoticed == tried > 5000
        assert unnoticed < 100  # in what was written last: that all was durable

    def test_the_message_names_file_offset_and_what_to_do(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        path = tmp_path / "0000000002.seg"
        whole = bytearray(path.read_bytes())
        whole[1000] ^= 1
        path.write_bytes(whole)
        with pytest.raises(LogError) as raised:
            opened(tmp_path, State(START_MS))
        message = str(raised.value)
        assert re.match(rf"{path} is damaged at offset (\d\d\d?|1000): ", message)
        assert f"workq-log check {tmp_path}" in message
        assert f"workq-log repair {tmp_path}" in message
        assert "\n" not in message

    def test_a_missing_segment(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        names = segment_files(tmp_path)
        for name in names[:-1]:  # nothing tells that there was a last one
            (tmp_path / name).rename(tmp_path / "away")
            with pytest.raises(Damage, match=f"{name} is damaged at offset 0: the file is missing"):
                read(tmp_path)
            (tmp_path / "away").rename(tmp_path / name)

    def test_a_segment_under_another_name(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.close()
        names = segment_files(tmp_path)
        shutil.copy(tmp_path / names[0], tmp_path / names[1])
        with pytest.raises(Damage, match=r"it was written as 0000000001\.seg"):
            read(tmp_path)

    def test_a_segment_of_another_log(self, tmp_path: Path, random: Random) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            log, _ = written(tmp_path / name, random, TURNS)
            log.close()
        shutil.copy(tmp_path / "two" / "0000000002.seg", tmp_path / "one" / "0000000002.seg")
        with pytest.raises(Damage, match=r"0000000002\.seg is damaged at offset 0: it belongs to another log"):
            read(tmp_path / "one")

    def test_a_file_that_was_copied_behind_the_end(self, tmp_path: Path, random: Random) -> None:
        for name, turns in (("one", TURNS), ("two", 3 * TURNS)):
            (tmp_path / name).mkdir()
            log, _ = written(tmp_path / name, random, turns)
            log.close()
        home = tmp_path / "one"
        names = segment_files(home)
        own, other = "it was written as 0000000002.seg", "it belongs to another log than 0000000001.seg"
        for gap in (1, 3):
            behind = home / f"{len(names) + gap:010}.seg"
            for source, why in ((home / names[1], own), (None, other)):
                shutil.copy(source or tmp_path / "two" / behind.name, behind)
                whole = behind.read_bytes()
                with pytest.raises(LogError, match=f"{why}; if somebody has copied it here, move it away"):
                    opened(home, State(START_MS))
                assert behind.read_bytes() == whole
            behind.unlink()
        opened(home, State(START_MS)).close()

    def test_a_log_that_was_copied_over_another_one(self, tmp_path: Path, random: Random) -> None:
        """A backup, over what a server has begun meanwhile: those jobs are no leftovers."""
        backup, begun = tmp_path / "backup", tmp_path / "begun"
        backup.mkdir()
        begun.mkdir()
        log, _ = written(backup, random, TURNS)
        log.begin_afresh(b"")
        log.finish_afresh(b"")
        log.close()
        opened(begun, State(START_MS)).close()
        whole = (begun / "0000000001.seg").read_bytes()
        assert "0000000001.seg" not in segment_files(backup)
        shutil.copytree(backup, begun, dirs_exist_ok=True)
        with pytest.raises(LogError, match=r"0000000001\.seg is damaged at offset 0: it belongs to another log than"):
            opened(begun, State(START_MS))
        assert (begun / "0000000001.seg").read_bytes() == whole

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (Leased(b"x" * 16, 5), f"there is no job {uuid.UUID(bytes=b'x' * 16)}"),
            (Deleted(b"x" * 16), f"there is no job {uuid.UUID(bytes=b'x' * 16)}"),
            (Completed(b"x" * 16, b"", 5), f"there is no job {uuid.UUID(bytes=b'x' * 16)}"),
        ],
    )
    def test_a_record_about_no_job(self, tmp_path: Path, event: Leased | Deleted | Completed, why: str) -> None:
        log = opened(tmp_path, State(START_MS))
        log.append(encode([event]), b"")
        log.close()
        with pytest.raises(Damage, match=why):
            read(tmp_path)

    def test_a_newer_format_is_neither_read_nor_changed(self, tmp_path: Path) -> None:
        opened(tmp_path, State(START_MS)).close()
        path = tmp_path / "0000000001.seg"
        newer = bytearray(Header(b"h" * 8, 1, 1, 0).pack())
        newer[8] = 2
        newer[-4:] = zlib.crc32(newer[:-4]).to_bytes(4, "little")
        path.write_bytes(newer)
        with pytest.raises(UnknownFormat, match=r"0000000001\.seg is of version 2 .* reads version 1"):
            opened(tmp_path, State(START_MS))
        assert path.read_bytes() == newer


class Overtaken(MemoryFiles):
    """Files of a server that writes while they are read: the first look at the head sees nothing behind `end`."""

    end: int | None = None

    def read(self, fd: int, size: int, offset: int) -> bytes:
        data = super().read(fd, size, offset)
        if self.end is None or not offset <= self.end < offset + size:
            return data
        seen = self.end - offset
        self.end = None
        return data[:seen] + bytes(len(data) - seen)


class TestInUse:
    def test_what_was_written_while_it_was_read_is_no_damage(self, tmp_path: Path) -> None:
        log = opened(tmp_path, State(START_MS))
        ends = []
        for number in range(5):
            ends.append(log.total_bytes + (SYNCED_BYTES if number else 0))
            log.append(encode([Counters(number, number)]), b"")
            log.sync()
        log.abandon()
        for number, end in enumerate(ends):
            files = Overtaken.read_from(tmp_path)
            files.end = end
            state = State(START_MS)
            recovered = replay(files, state, quietly, in_use=True)
            assert recovered is not None
            assert recovered.torn is None
            assert state.evicted_jobs == max(number - 1, 0)

    def test_damage_is_damage_all_the_same(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.abandon()
        files = MemoryFiles.read_from(tmp_path)
        for name, content in list(files.contents.items())[:-1]:
            file = files.open(name, write=True)
            for offset in range(0, len(content), 50):
                files.write(file, bytes([content[offset] ^ 1]), offset)
                with pytest.raises(Damage):
                    replay(files, State(START_MS), quietly, in_use=True)
                files.write(file, content[offset : offset + 1], offset)

    def test_a_segment_that_is_missing_is_damage(self, tmp_path: Path, random: Random) -> None:
        log, _ = written(tmp_path, random, TURNS)
        log.abandon()
        (tmp_path / segment_files(tmp_path)[1]).unlink()
        with pytest.raises(Damage, match=r"0000000002\.seg is damaged at offset 0: the file is missing"):
            replay(Files(tmp_path), State(START_MS), quietly, in_use=True)


class TestDirectory:
    def test_it_is_locked_against_a_second_server(self, tmp_path: Path) -> None:
        log = opened(tmp_path, State(START_MS))
        with pytest.raises(DirectoryInUse, match="is in use by a running server"):
            opened(tmp_path, State(START_MS))
        log.close()
        opened(tmp_path, State(START_MS)).close()

    def test_a_log_of_the_old_server_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "000000001.log").write_bytes(b"wqwq\0\0\0\1")
        with pytest.raises(UnknownFormat, match=f"workq-log import {tmp_path} NEW"):
            opened(tmp_path, State(START_MS))
        assert not segment_files(tmp_path)
