"""clock + progress -> how long to wait: the limits on a silent or endless peer. The clock is an argument."""

from dataclasses import dataclass
from enum import Enum

STALL_PROGRESS = 1024  # bytes that a stalled-message window must bring; a 9600 baud modem brings 70 times that


class Phase(Enum):
    """What the acceptor waits for, and the field of Limits that says how long."""

    ARTIM = "artim"  # the association request, or the peer's close (PS3.8 9.1.5)
    IDLE = "idle"  # the next message
    MESSAGE = "stall"  # the rest of a message


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds. `stall` is the time in which a message under way must bring STALL_PROGRESS bytes or its end."""

    artim: float
    idle: float
    stall: float

    @property
    def shortest(self) -> float:
        return min(self.artim, self.idle, self.stall)

    def of(self, phase: Phase) -> float:
        seconds: float = getattr(self, phase.value)
        return seconds


class Timers:
    """One deadline at a time, chosen by the phase. ARTIM runs on whatever arrives; the others are restarted."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.phase = Phase.ARTIM
        self._limits = limits
        self._progress = 0
        self._deadline = now + limits.artim

    def enter(self, phase: Phase, now: float) -> None:
        """Begin a phase, with its whole time."""
        self.phase = phase
        self._progress = 0
        self._deadline = now + self._limits.of(phase)

    def progress(self, phase: Phase, size: int, now: float) -> None:
        """`size` bytes came, and what is waited for now is `phase`."""
        self._progress += size
        if (
            phase is not self.phase
            or phase is Phase.IDLE
            or (phase is Phase.MESSAGE and self._progress >= STALL_PROGRESS)
        ):
            self.enter(phase, now)

    def remaining(self, now: float) -> float:
        """Seconds until the phase has lasted too long; 0 or less when it has."""
        return self._deadline - now
