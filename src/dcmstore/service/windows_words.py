"""Windows' numbers -> what they mean for this service, and what to do."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from dcmstore import config, wiring
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.server import endpoints_of
from dcmstore.service import SERVICE_NAME, manager, winsvc
from dcmstore.service.advapi import CallError, Progress
from dcmstore.service.manager import DISPLAY_NAME, ServiceError, State
from dcmstore.settings import Settings

STATES = {
    winsvc.SERVICE_RUNNING: State.RUNNING,
    winsvc.SERVICE_START_PENDING: State.STARTING,
    winsvc.SERVICE_STOP_PENDING: State.STOPPING,
    winsvc.SERVICE_STOPPED: State.STOPPED,
}

_WORDS = {
    winsvc.ERROR_ACCESS_DENIED: "only an administrator may do this: right-click the script, or the command prompt that "
    "you use, and choose `Run as administrator`",
    winsvc.ERROR_SERVICE_DOES_NOT_EXIST: manager.NOT_INSTALLED,
    winsvc.ERROR_SERVICE_NOT_ACTIVE: "not running",
    winsvc.ERROR_SERVICE_MARKED_FOR_DELETE: "it is still being deleted: close Services and the Task Manager, "
    "and try again",
    1053: "its process did not answer within 30 seconds; perhaps a virus scanner looks at it",
    1057: "there is no such account: allowed is DOMAIN\\NAME, or the NAME of an account of this machine",
    1058: f"it is switched off: open Services, {DISPLAY_NAME}, and set the startup type to Automatic",
    1061: "it is starting or stopping; try again in a moment",
    1069: "its account may not log on as a service, or the password is wrong: open Services, "
    f"{DISPLAY_NAME}, Log On, and enter the password there; Windows then gives the account that right",
    1078: f"another service is called {DISPLAY_NAME}; rename or delete that one first",
}
_NEVER_STARTED = 1077  # since Windows was started
_BY_EXIT_CODE = {
    1: "it could not start, or went wrong",
    2: "its settings are wrong",
}


def words(code: int, words_of_windows: Callable[[int], str]) -> str:
    return _WORDS.get(code) or f"{words_of_windows(code).rstrip('.')} (Windows error {code})"


@contextlib.contextmanager
def in_words(words_of_windows: Callable[[int], str]) -> Iterator[None]:
    """What Windows has against something, as a ServiceError."""
    try:
        yield
    except CallError as error:
        call = "" if error.code in _WORDS else f"{error.call}: "
        raise ServiceError(call + words(error.code, words_of_windows)) from None
    except PermissionError:
        raise ServiceError(_WORDS[winsvc.ERROR_ACCESS_DENIED]) from None
    except OSError as error:  # of the registry
        raise ServiceError(f"the registry, {SERVICE_NAME}: {reason_of(error)}") from None


def why_stopped(progress: Progress, words_of_windows: Callable[[int], str]) -> str:
    """Why the service ended, or nothing when it was asked to, or never ran."""
    if progress.win32_exit_code in (winsvc.NO_ERROR, _NEVER_STARTED):
        return ""
    if progress.win32_exit_code == winsvc.ERROR_SERVICE_SPECIFIC_ERROR:
        code = progress.specific_exit_code
        return _BY_EXIT_CODE.get(code, f"it ended with code {code}")
    return words(progress.win32_exit_code, words_of_windows)


# --- what a service receives ---------------------------------------------------------------------


def endpoints(settings: Settings) -> str:
    numbers = [f"{endpoint.port}{' (TLS)' if endpoint.is_secure else ''}" for endpoint in endpoints_of(settings)]
    return f"{settings.local_ae} on port {' and '.join(numbers)}"


def by_ini(ini: Path) -> Iterator[str]:
    """What the ini says now, if it can be read; the process may have read it before it was changed."""
    with contextlib.suppress(ConfigurationError):
        yield f"its ini says {endpoints(config.read(ini).settings)}"


def left(ini: Path) -> Iterator[str]:
    yield f"deleted; these stay: {ini}, the log beside it"
    try:
        roots = wiring.roots_of(config.read(ini).settings)
    except ConfigurationError:
        yield "and what was received"
        return
    for root, folder in roots.items():
        yield f"    {root.value} {folder}"
