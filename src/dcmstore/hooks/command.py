"""a job of a command -> its program, run to its end: done with exit code 0, or failed in words."""

import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Callable

from dcmstore.errors import reason_of
from dcmstore.hooks import arguments, masking, values
from dcmstore.hooks.arguments import CommandLine
from dcmstore.hooks.processes import News, Program
from dcmstore.jobs.work import Job, JobFailed

_ADVICE = {
    errno.ENOEXEC: "it is no program: begin the line with the one that runs it, such as python",
    errno.EACCES: "let the user that runs dcmstore execute it",
    errno.E2BIG: "its arguments are too long",
}
TO_FINISH = 3.0  # seconds that what runs may still take when the receiver stops
_NO_PROGRAM_OF_WINDOWS = 193  # ERROR_BAD_EXE_FORMAT


class CommandHandler:
    """Runs programs, each for `timeout` seconds at most. Where it does not show the patient, reasons have no names."""

    def __init__(self, timeout: float, *, shows_patient: Callable[[], bool] = lambda: False) -> None:
        self._timeout = timeout
        self._shows_patient = shows_patient
        self._lock = threading.Lock()
        self._at_work: set[Program] = set()
        self._is_closed = False

    def do(self, job: Job) -> None:
        """Raises JobFailed."""
        try:
            line = CommandLine.parse(job.target)
        except ValueError:
            raise JobFailed(f"{job.target!r} is no command line; correct it in the ini", is_final=True) from None
        program = self._start(line, job)
        try:
            self._see_through(program, job)
        finally:
            with self._lock:
                self._at_work.discard(program)

    def close(self) -> None:
        """Begin nothing more, and end what does not end by itself: `do` is over within a few seconds."""
        with self._lock:
            self._is_closed = True
            for program in self._at_work:
                program.stop()

    def _start(self, line: CommandLine, job: Job) -> Program:
        whole = found(line.program)
        filled = line.arguments(job.facts)
        environment = values.environment(job.facts)
        if arguments.is_batch_file(whole):
            arguments.require_safe_for_batch(line, filled)
            environment = arguments.safe_for_batch(environment)
        with self._lock:
            if self._is_closed:
                raise JobFailed("the receiver stops; it is done after the next start")
            try:
                program = Program([whole, *filled], {**os.environ, **environment})
            except OSError as error:
                raise JobFailed(f"{line.program}: {reason_of(error)}; {_advice(error)}") from None
            self._at_work.add(program)
            return program

    def _see_through(self, program: Program, job: Job) -> None:
        began = time.monotonic()
        news = program.wait(self._timeout)
        if news is News.STOPPED and program.has_ended(TO_FINISH):
            news = News.ENDED  # by itself: it is done, and need not be done again
        if news is not News.ENDED:
            program.end()
        output = program.output()
        if news is News.STOPPED:
            seconds = time.monotonic() - began
            raise JobFailed(f"ended after {seconds:.0f} seconds, for the receiver stops; it is done again")
        if news is News.TIMED_OUT:
            what = f"ended after {self._timeout:g} seconds; raise `hook-timeout` if it needs longer"
        elif program.exit_code:
            what = f"exit code {program.exit_code}"
        else:
            return
        raise JobFailed(what + self._last_words(output, job), is_about_one=news is News.ENDED)

    def _last_words(self, output: str, job: Job) -> str:
        """The last line first, and what stood before it behind it."""
        lines = [line for line in map(values.without_controls, output.splitlines()) if line.strip()]
        if not lines:
            return "; it wrote nothing"
        *before, last = (line.strip() for line in lines)
        words = f"; it wrote at last: {last}" + (f" (before that: {' | '.join(before)})" if before else "")
        return words if self._shows_patient() else masking.masked(words, job.facts)


def found(program: str) -> str:
    """Where a program is. Raises JobFailed, which is not final: it may be installed later."""
    whole = shutil.which(program)
    if whole is not None:
        return os.path.abspath(whole)
    if os.path.isfile(program):
        raise JobFailed(f"{program}: can't be executed; {_ADVICE[errno.EACCES]}")
    is_path = re.search(r"[/\\]", program)
    advice = "" if is_path else f", or give its whole path: it is not in PATH, which is {os.environ.get('PATH', '')}"
    raise JobFailed(f"{program}: there is no such program; install it{advice}")


def _advice(error: OSError) -> str:
    if getattr(error, "winerror", 0) == _NO_PROGRAM_OF_WINDOWS:
        return _ADVICE[errno.ENOEXEC]
    return _ADVICE.get(error.errno or 0, "see to the program")
