"""words -> what a program of the system prints, or why it failed; among them what the journal says of the service."""

import os
import re
import shlex
import subprocess

from dcmstore.errors import reason_of
from dcmstore.service.manager import ServiceError


def output_of(*words: str) -> str:
    """What a program prints. Raises ServiceError with its own words when it fails or is not there."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=environment, check=False)
    except OSError as error:
        raise ServiceError(f"{words[0]}: {reason_of(error)}") from None
    if done.returncode:
        told = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise ServiceError(f"`{shlex.join(words)}`: {told}")
    return done.stdout


def journal_end() -> str:
    """Where the journal ends now; nothing where there is none."""
    match = re.search(r"(?m)^-- cursor: (.+)$", _journal("--lines=1", "--show-cursor"))
    return match[1] if match else ""


def journal_since(cursor: str, unit: str) -> str:
    return _journal(f"--unit={unit}", "--output=cat", f"--after-cursor={cursor}") if cursor else ""


def _journal(*words: str) -> str:
    try:
        output_of("journalctl", "--sync")
        return output_of("journalctl", "--quiet", "--no-pager", *words)
    except ServiceError:  # no journal: then its words are missing, which is no reason to fail
        return ""
