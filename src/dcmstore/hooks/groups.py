"""arguments -> a program and all that it starts: begun together, and ended together."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

_PIECE = 64 * 1024  # bytes read at a time: what a pipe of Linux holds
_LOOK = 0.2  # seconds until it is seen that nobody wants the output any more

if sys.platform == "win32":
    from ctypes import wintypes

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateJobObjectW.restype = wintypes.HANDLE
    _kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
    _kernel.SetInformationJobObject.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
    _kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
    _kernel.TerminateJobObject.argtypes = (wintypes.HANDLE, wintypes.UINT)
    _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    _resume = ctypes.WinDLL("ntdll").NtResumeProcess
    _resume.argtypes = (wintypes.HANDLE,)
    _resume.restype = ctypes.c_long  # NTSTATUS, below 0 for a failure

    _CREATE_SUSPENDED = 0x4
    _EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
    _KILL_ON_JOB_CLOSE = 0x2000
    _ENDED = 1  # exit code of what is ended

    class _Limits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which we need the flags."""

        _fields_ = (
            ("times", ctypes.c_int64 * 2),
            ("flags", wintypes.DWORD),
            ("working_set", ctypes.c_size_t * 2),
            ("active_processes", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("classes", wintypes.DWORD * 2),
            ("counters", ctypes.c_uint64 * 6),
            ("memory", ctypes.c_size_t * 4),
        )

    class Group:
        """A job object: what is in it ends when it is told to, and also when this process ends."""

        def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
            """Raises OSError."""
            self._lock = threading.Lock()
            self._job: int | None = _new_job()
            try:
                # Suspended until it is in the job: nothing that it starts can be outside.
                self.process = _started(
                    arguments, environment, creationflags=_CREATE_SUSPENDED | subprocess.CREATE_NO_WINDOW
                )
                _let_run(self.process, self._job)
            except OSError:
                _kernel.CloseHandle(self._job)
                raise

        def wait(self) -> None:
            """Until the program has ended; what it started may go on."""
            self.process.wait()

        def ask_to_end(self) -> None:
            """A program without a window can't be asked."""
            self.kill()

        def kill(self) -> None:
            with self._lock:
                if self._job:
                    _kernel.TerminateJobObject(self._job, _ENDED)

        def release(self) -> int:
            """Let go of it once it has ended; return its exit code."""
            with self._lock:
                job, self._job = self._job, None
            if job:
                _kernel.CloseHandle(job)
            return self.process.wait()

    def _new_job() -> int:
        job = _kernel.CreateJobObjectW(None, None)
        if not job:
            raise ctypes.WinError(ctypes.get_last_error())
        limits = _Limits(flags=_KILL_ON_JOB_CLOSE)
        if not _kernel.SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)):
            error = ctypes.WinError(ctypes.get_last_error())
            _kernel.CloseHandle(job)
            raise error
        return int(job)

    def _let_run(process: "subprocess.Popen[bytes]", job: int) -> None:
        """Let a suspended program go on, in its job. Raises OSError where it can't be; then it has ended."""
        handle = int(process._handle)
        problem = ""
        if not _kernel.AssignProcessToJobObject(job, handle):
            error = ctypes.WinError(ctypes.get_last_error())
            problem = f"Windows does not let it be ended together with what it starts: {error.strerror}"
        elif (status := _resume(handle)) < 0:
            problem = f"Windows does not let it begin: NTSTATUS {status & 0xFFFFFFFF:08X}"
        if problem:
            with process:  # which waits, and closes its output
                process.kill()
            raise OSError(f"{problem}; it was ended before it began")

    def output_of(stream: IO[bytes], is_over: threading.Event) -> Iterator[bytes]:
        """What is written, piece by piece. Nothing that could write more outlives the job."""
        while piece := os.read(stream.fileno(), _PIECE):
            yield piece

else:
    import select

    class Group:
        """A process group; what leaves it by a session of its own is a daemon, and none of ours."""

        def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
            """Raises OSError."""
            self._lock = threading.Lock()
            self._is_ours = True  # the number of the group
            self.process = _started(arguments, environment, start_new_session=True)

        def wait(self) -> None:
            """Until the program has ended; what it started may go on.

            The program is not reaped, so that the number of its group can't become that of another one.
            """
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

        def ask_to_end(self) -> None:
            self._send(signal.SIGTERM)

        def kill(self) -> None:
            self._send(signal.SIGKILL)

        def release(self) -> int:
            """Let go of it once it has ended; return its exit code."""
            with self._lock:
                self._is_ours = False
                return self.process.wait()

        def _send(self, number: signal.Signals) -> None:
            with self._lock:
                if self._is_ours:
                    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or another user's by now
                        os.killpg(self.process.pid, number)

    def output_of(stream: IO[bytes], is_over: threading.Event) -> Iterator[bytes]:
        """What is written, piece by piece, until it is over: a daemon may have the other end open for ever."""
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        while not is_over.is_set():
            if poll.poll(_LOOK * 1000):
                if not (piece := os.read(stream.fileno(), _PIECE)):
                    return
                yield piece


def _started(arguments: Sequence[str], environment: Mapping[str, str], **more: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        **more,
    )
