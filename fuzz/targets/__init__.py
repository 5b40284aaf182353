"""input -> nothing, or a Violation: every target, in the order in which data travels."""

from collections.abc import Callable
from dataclasses import dataclass

from fuzz import mutators
from fuzz.targets import headers, large, logging, messages, naming, receiving, settings, upper_layer


@dataclass(frozen=True)
class Target:
    """A check, what it checks, and how its inputs are made."""

    name: str
    check: Callable[[bytes], None]
    about: str
    longest: int = 4096  # bytes of an input
    share: float = 1.0  # of the time, beside the others
    mutate: Callable[..., bytes] | None = None
    words_of_files: bool = False


_ALL = (
    Target("framing", upper_layer.framing, "bytes to PDUs and fragments", mutate=mutators.STREAM),
    Target("association", upper_layer.association, "bytes to events, state table, answers", share=1.5,
           mutate=mutators.STREAM_WITH_CHOICE),
    Target("command", messages.command_set, "command sets", longest=1024, share=0.7, mutate=mutators.COMMAND),
    Target("message", messages.message, "PDVs to messages", share=0.7),
    Target("header", headers.data_set_head, "any bytes as a data set, in eight transfer syntaxes", share=1.5,
           mutate=mutators.ELEMENTS),
    Target("data-set", headers.data_set, "well-formed data sets in four transfer syntaxes", longest=1024),
    Target("file", headers.file, "PS3.10 files", longest=2048, share=0.7),
    Target("names", naming.place, "values to folders and file names", longest=512, share=1.5),
    Target("ini", settings.ini, "DcmStore.ini", longest=1024, share=0.7, words_of_files=True),
    Target("profile", settings.presentation_contexts, "PresContextCfg.ini", longest=1024, share=0.7,
           words_of_files=True),
    Target("log", logging.log_line, "facts to lines of the log", longest=512, share=0.4),
    Target("receiver", receiving.receiver, "association, services and store as one", share=2.0,
           mutate=mutators.STREAM_WITH_CHOICE),
    Target("large", large.large, "all of them at 256 kB", longest=512, share=0.8),
)  # fmt: skip
TARGETS = {target.name: target for target in _ALL}
