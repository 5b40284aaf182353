"""The log: one line an event, nothing from a peer unquoted, and never in anybody's way."""

import errno
import io
import os
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import logs
from dcmstore.logs import FileSink, Level, Log, StreamSink
from dcmstore.service.log_end import LogEnd
from dcmstore.storage.space import MEGABYTE


def text_of(log: Log, stream: io.StringIO) -> str:
    log.close()
    return stream.getvalue()


def test_an_event_is_one_line_of_time_level_name_and_facts() -> None:
    stream = io.StringIO()
    log = Log([StreamSink(stream)])
    log.info("instance.stored", calling="CT 1", bytes=5, comment=None)
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO    instance\.stored calling="CT 1" bytes=5\n',
        text_of(log, stream),
    )


@given(st.text())
def test_a_value_never_leaves_its_line_or_its_quotes(value: str) -> None:
    quoted = logs.quote(value)
    assert quoted.isprintable()
    assert quoted == value or len(value) > 400 or re.fullmatch(r'"(?:[^"\\]|\\.)*"', quoted)


@pytest.mark.parametrize(
    ("value", "quoted"),
    [("a b", '"a b"'), ("", '""'), ("a=b", '"a=b"'), ('a"b', '"a\\"b"'), ("a\nb", '"a\\nb"'), ("Größe", "Größe")],
)
def test_values_are_quoted_where_they_would_mislead(value: str, quoted: str) -> None:
    assert logs.quote(value) == quoted


def test_what_is_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    log = Log([StreamSink(stream)], "warning")
    log.info("little")
    log.warning("much")
    text = text_of(log, stream)
    assert "much" in text
    assert "little" not in text


def test_a_log_that_nobody_reads_drops_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_QUEUED", 10)
    opened = threading.Event()
    stream = io.StringIO()

    class Blocked(StreamSink):
        def write(self, text: str) -> None:
            opened.wait()
            super().write(text)

    log = Log([Blocked(stream)])
    for number in range(100):
        log.info("event", number=number)  # returns although nobody writes
    opened.set()
    text = text_of(log, stream)
    written = len(re.findall(r" event ", text))
    assert written <= 20  # what was taken out before it blocked, and what is queued
    assert f"log.dropped lines={100 - written}" in text


def test_a_full_file_is_put_aside_and_only_some_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.log"
    log = Log([FileSink(path, MEGABYTE, 2)])
    for _ in range(5 * 1100):
        log.info("event", text="x" * 950)
        while log._queue.qsize() > 5000:
            threading.Event().wait(0.01)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["DcmStore.log", "DcmStore.log.1", "DcmStore.log.2"]
    assert all(file.stat().st_size <= MEGABYTE for file in tmp_path.iterdir())


class Full(StreamSink):
    """A sink on a full disk, until there is room."""

    name = "DcmStore.log"
    has_room = False

    def write(self, text: str) -> None:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        super().write(text)


def test_a_sink_that_fails_is_told_of_once_by_the_others() -> None:
    stream = io.StringIO()
    log = Log([Full(io.StringIO()), StreamSink(stream)])
    for number in range(20):
        log.info("event", number=number)
        while log._queue.qsize():
            threading.Event().wait(0.001)
    text = text_of(log, stream)
    assert len(re.findall(r" event number=", text)) == 20
    assert text.count('WARNING log.not_written sink=DcmStore.log reason="No space left on device"') == 1


def test_a_sink_says_how_many_lines_it_missed_when_it_can_again() -> None:
    stream, other = io.StringIO(), io.StringIO()
    full = Full(stream)
    log = Log([full, StreamSink(other)])
    log.info("lost")
    while "log.not_written" not in other.getvalue():
        threading.Event().wait(0.001)
    full.has_room = True
    log.info("kept")
    text = text_of(log, stream)
    assert "lost" not in text
    assert re.search(r"WARNING log\.dropped lines=[12]\n.* kept\n", text)


def test_a_file_that_cannot_be_put_aside_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    path = tmp_path / "DcmStore.log"
    log = Log([FileSink(path, 5_000, 2)])
    for number in range(200):
        log.info("event", number=number)
        while log._queue.qsize() > 10:
            threading.Event().wait(0.01)
    log.close()
    text = path.read_text()
    assert len(re.findall(r" event number=", text)) == 200
    assert f'log.not_put_aside reason="{path}: Permission denied"' in text


def test_a_very_long_value_is_cut_and_says_how_long_it_was() -> None:
    quoted = logs.quote("x" * 1000)
    assert quoted == f'"{"x" * 381}… (1000 characters)"'
    assert len(quoted) == 2 + logs.MAX_VALUE


@given(st.text() | st.integers() | st.booleans() | st.none() | st.text(min_size=395).map(lambda text: 170 * text))
def test_a_value_that_is_brief_stays_as_it_is(value: object) -> None:
    brief = logs.brief(value)
    assert logs.brief(brief) == brief
    assert not isinstance(brief, str) or len(brief) <= logs.MAX_VALUE
    assert logs.quote(brief) == logs.quote(value)


class Held(StreamSink):
    """Somebody who does not read until he is let."""

    def __init__(self, stream: io.StringIO) -> None:
        super().__init__(stream)
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, text: str) -> None:
        self.entered.set()
        self.opened.wait()
        super().write(text)


def test_what_waits_holds_no_long_text_and_no_exception_in_memory() -> None:
    sink = Held(io.StringIO())
    log = Log([sink])
    log.info("first")
    assert sink.entered.wait(20)
    log.info("event", uid="x" * 65_536, error=ValueError("y" * 65_536), bytes=7)
    waiting = log._queue.get()
    sink.opened.set()
    log.close()
    assert not callable(waiting)
    _, _, _, facts = waiting
    assert [type(value) for value in facts.values()] == [str, str, int]
    assert all(len(str(value)) <= logs.MAX_VALUE for value in facts.values())


def test_lines_that_are_dropped_are_counted_under_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_QUEUED", 0)
    log = Log([])
    were_locked = []

    class Watched(int):
        def __add__(self, other: int) -> "Watched":
            were_locked.append(log._lock.locked())
            return Watched(int(self) + other)

    log._dropped = Watched(0)
    log.info("event")
    log.close()
    assert were_locked == [True]


# --- the file -------------------------------------------------------------------------------------


def put_aside(path: Path) -> list[str]:
    """What is in the file and in those that were put aside, the newest first."""
    files = (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, 10)))
    return [file.read_text() for file in files if file.exists()]


def test_a_file_that_can_not_be_opened_again_costs_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "DcmStore.log"
    sink = FileSink(path, 10, 3)
    for number in range(4):
        sink.write(f"line {number}\n")
    before = put_aside(path)
    assert before == ["line 3\n", "line 2\n", "line 1\n", "line 0\n"]
    really = os.open

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(5):
        with pytest.raises(OSError, match="Too many open files"):
            sink.write("lost\n")
    monkeypatch.setattr(os, "open", really)
    sink.write("line 4\n")
    sink.write("line 5\n")
    sink.close()
    assert put_aside(path) == ["line 5\n", "line 4\n", "line 3\n", "line 2\n"]


def test_a_file_that_can_not_be_moved_costs_no_older_one_at_each_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "DcmStore.log"
    sink = FileSink(path, 10, 5)
    for number in range(4):
        sink.write(f"line {number}\n")
    really = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self == path:  # somebody has it open
            raise PermissionError(13, "Permission denied", str(self))
        return really(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    for _ in range(20):
        sink.write("more\n")
    sink.close()
    assert sink.fault == f"{path}: Permission denied"
    assert put_aside(path) == ["line 3\n" + 20 * "more\n", "line 2\n", "line 1\n", "line 0\n"]


class FullAfter:
    """A file on a disk that has room for some bytes, and for all again later."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self._room: int | None = room

    def write(self, encoded: bytes) -> int:
        if self._room is None:
            return int(self._file.write(encoded))
        if not self._room:
            self._room = None
            raise OSError(errno.ENOSPC, "No space left on device")
        written, self._room = int(self._file.write(encoded[: self._room])), 0
        return written

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize(
    ("room", "kept"), [(0, ["third"]), (3, ["fir", "third"]), (6, ["first", "third"]), (8, ["first", "se", "third"])]
)
def test_a_line_that_a_full_disk_cut_off_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: list[str]
) -> None:
    path = tmp_path / "DcmStore.log"
    sink = FileSink(path, MEGABYTE, 1)
    monkeypatch.setattr(sink, "_file", FullAfter(sink._file, room))
    with pytest.raises(OSError, match="No space left"):
        sink.write("first\nsecond\n")
    sink.write("third\n")
    sink.close()
    assert path.read_text().splitlines() == kept


@pytest.mark.parametrize(
    ("before", "after"), [("", "next\n"), ("whole\n", "whole\nnext\n"), ("cut o", "cut o\nnext\n")]
)
def test_a_file_that_ends_within_a_line_is_gone_on_with_on_the_next(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "DcmStore.log"
    path.write_text(before)
    sink = FileSink(path, MEGABYTE, 1)
    sink.write("next\n")
    sink.close()
    assert path.read_text() == after


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFO in a folder")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.log"
    os.mkfifo(path)
    refused: list[OSError] = []

    def open_it() -> None:
        try:
            FileSink(path, MEGABYTE, 1).close()
        except OSError as error:
            refused.append(error)

    opening = threading.Thread(target=open_it, daemon=True)
    opening.start()
    opening.join(20)
    assert [error.strerror for error in refused] == ["a pipe or a device has that name; remove it"]


# --- lines that are read again --------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
EVENTS = st.from_regex(r"[a-z]+\.[a-z_]+", fullmatch=True)
FACTS = st.dictionaries(NAMES, st.text() | st.integers() | st.none())
MOMENTS = st.floats(1, 4_000_000_000)


def line_of(moment: float, level: Level, event: str, facts: dict[str, object]) -> str:
    log = Log([])
    log.close()
    return log._format((moment, level, event, facts))


@given(MOMENTS, st.sampled_from(Level), EVENTS, FACTS)
def test_what_was_written_is_read_again(moment: float, level: Level, event: str, facts: dict[str, object]) -> None:
    parsed = logs.parse(line_of(moment, level, event, facts))
    assert parsed is not None
    assert (parsed.level, parsed.event) == (level, event)
    assert 0 <= moment - parsed.moment.timestamp() < 0.0011
    assert parsed.facts == {name: str(logs.brief(value)) for name, value in facts.items() if value is not None}


@given(MOMENTS, EVENTS, FACTS, st.data())
def test_a_part_of_a_line_is_none(moment: float, event: str, facts: dict[str, object], data: st.DataObject) -> None:
    line = line_of(moment, Level.INFO, event, facts)
    at = data.draw(st.integers(0, len(line) - 1))
    assert logs.parse(line[:at]) is None


@given(st.text())
def test_garbage_is_no_line(text: str) -> None:
    assert logs.parse(text) is None
    assert logs.parse(f"{text}\n") is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-13-01T00:00:00.000+00:00 INFO    event a=1\n",
        "2026-01-01T00:00:00.000 INFO    event a=1\n",
        "2026-01-01T00:00:00.000+99:00 INFO    event a=1\n",
        "2026-01-01T00:00:00.000+00:00 NOTHING event a=1\n",
        '2026-01-01T00:00:00.000+00:00 INFO    event a="\\u00"\n',
        "2026-01-01T00:00:00.000+00:00 INFO    event bytes=932026-01-01T00:00:00.001+00:00 ERROR   event a=1\n",
        "2026-01-01T00:00:00.000+00:00 INFO    event a=1 b\n",
    ],
)
def test_a_line_that_no_log_has_written_is_none(text: str) -> None:
    assert logs.parse(text) is None


def test_a_fact_that_a_line_does_not_have_is_empty() -> None:
    parsed = logs.parse("2026-01-01T00:00:00.000+00:00 INFO    event a=1\n")
    assert parsed is not None
    assert (parsed["a"], parsed["b"]) == ("1", "")
    assert parsed.moment == datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def test_a_closed_stream_does_not_end_the_log() -> None:
    closed, stream = io.StringIO(), io.StringIO()
    closed.close()
    log = Log([StreamSink(closed), StreamSink(stream)])
    log.info("first")
    log.info("second")
    assert " second" in text_of(log, stream)


HALF = '2026-01-02T00:00:00.000+01:00 ERROR   config.not_reloaded reason="no ri'


def test_a_line_that_is_only_half_there_is_no_answer_yet(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.log"
    end = LogEnd(path)
    path.write_text(HALF)
    assert end.newest("config.not_reloaded") is None
    path.write_text(f'{HALF}ght"\n{HALF}\n{HALF}', newline="\n")
    assert end.newest("config.not_reloaded") == ("config.not_reloaded", {"reason": "no right"})
