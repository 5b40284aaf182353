"""A receiver that is ended, and one that starts beside it, as processes of Windows."""

import subprocess
import sys
from pathlib import Path

import pytest

from dcmstore import sockets
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Store
from tests.test_store import FIRST, data_sets

UNDER_WAY = """
import sys
from tests import test_store as t
store = t.Store({t.Root.IMAGES: sys.argv[1]}, t.FilingPolicy())
store.open()
t.send(store, t.FIRST)
incoming = t.receive(store, t.SECOND)
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_under_way_is_removed_at_the_next_start(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNDER_WAY, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate(timeout=30)
    store = Store({Root.IMAGES: str(tmp_path)}, FilingPolicy())
    assert store.open() == 1
    store.close()
    assert data_sets(tmp_path) == [FIRST]


def test_a_second_receiver_cannot_take_the_port() -> None:
    with sockets.listen("127.0.0.1", 0) as first, pytest.raises(OSError):
        sockets.listen("127.0.0.1", first.getsockname()[1])


def test_a_console_host_hears_the_signal_of_ctrl_c() -> None:
    """Raised by the process itself: a Windows program can't be sent Ctrl-C alone, and Wine's has no console here."""
    script = (
        "import signal, threading\n"
        "from dcmstore.hosting import ConsoleHost\n"
        "host = ConsoleHost()\n"
        "threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()\n"
        "print(host.wait().name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("STOP\n", "")
