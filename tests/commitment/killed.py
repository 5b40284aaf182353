"""A receiver to be killed: it promises, and does no job. `python -m tests.commitment.killed FOLDER` prints its port."""

import sys
from pathlib import Path

from tests.commitment.support import Wired

if __name__ == "__main__":
    with Wired(Path(sys.argv[1]), does_jobs=False).running() as running:
        print(running.port, flush=True)
        sys.stdin.read()
