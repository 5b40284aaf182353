"""The log: one line an event, nothing from a peer unquoted, and never in anybody's way."""

import io
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import logs
from dcmstore.logs import FileSink, Log, StreamSink
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
    assert logs.quote("x" * 1000) == f'"{"x" * 400}… (1000 characters)"'


def test_a_closed_stream_does_not_end_the_log() -> None:
    closed, stream = io.StringIO(), io.StringIO()
    closed.close()
    log = Log([StreamSink(closed), StreamSink(stream)])
    log.info("first")
    log.info("second")
    assert " second" in text_of(log, stream)
