"""a command line and facts -> a list of arguments, in which no value is more than a value.

The line is split before values are put in, so that a value stays within its argument whatever it holds. Three things
are left that a hostile one could try: to be taken for an option, to lead out of a folder, and to be read as a command
by cmd.exe, which reads the arguments of batch files once more.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dcmstore.hooks import placeholders, values
from dcmstore.hooks.placeholders import Part
from dcmstore.jobs.work import Facts, JobFailed
from dcmstore.storage import names
from dcmstore.storage.names import Placeholder
from dcmstore.values import NotAllowed

# Where a program may see an option, or with @ a file that has options: `+` is DCMTK's, `/` that of Windows.
_OPTION_SIGNS = tuple("-+@/" if sys.platform == "win32" else "-+@")
# What a program that takes it for a path would find outside of its folder
_LEADS_OUT = re.compile(
    r"[/\\]|(?:.*[/\\])?\.\.(?:[/\\]|$)" + (r"|[A-Za-z]:" if sys.platform == "win32" else ""), re.DOTALL
)
_UNKNOWN = Placeholder("unknown", "UNKNOWN")  # an empty value within a path
_UTF_8 = b"ISO_IR 192"
_BATCH_FILES = (".bat", ".cmd")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_QUOTED = re.compile(r'"[^"]*"')
_OPERATOR = re.compile(r"^(?:\|\|?|&&?)$|^[0-9]?(?:>>?|<<?)|;$|`")  # within a word, they are text
_EXPANSION = re.compile(r"\$(?:\w+|[({])|^~[/\\]")
_SINGLE_QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")  # else an apostrophe
# With these, a shell here or on another machine gets the arguments as one line.
_READS_ARGUMENTS_AS_SHELL = re.compile(r"(?:.*[/\\])?(?:cmd|powershell|pwsh|ssh|plink|wsl)(?:\.exe)?", re.IGNORECASE)
_SAFE_FOR_BATCH = re.compile(r"[\w .:\\/~()@#+-]*")  # neither a sign of cmd.exe's nor one that ends an argument


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A program and its arguments, with placeholders."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "CommandLine":
        """Raises ValueError without a program, with a placeholder for it, and with a quote that does not end."""
        words = tuple(_split(text))
        if not words or not words[0]:
            raise ValueError
        if placeholders.names_in(words[0]):
            raise NotAllowed("the program is a placeholder, so a sender would choose it; allowed is a program's name")
        return cls(words)

    @property
    def program(self) -> str:
        return self.words[0]

    def arguments(self, facts: Facts) -> list[str]:
        """The words behind the program with values in them. Raises JobFailed for one that is dangerous there."""
        return [_filled(word, facts) for word in self.words[1:]]


def _split(text: str) -> Iterator[str]:
    """Split at blanks; double quotes hold a word together, and a backslash is one. Raises NotAllowed."""
    if text.count('"') % 2:
        raise NotAllowed("a double quote is not closed; allowed are pairs of them")
    for match in _WORD.finditer(text):
        yield match[0].replace('"', "")


# --- what only a shell could do ------------------------------------------------------------------


def shell_signs(text: str) -> Iterator[str]:
    """What in a command line is meant for a shell, and what to write in place of it. In double quotes it is text."""
    program, *_ = _split(text)
    if _READS_ARGUMENTS_AS_SHELL.fullmatch(program):
        return
    bare = [_QUOTED.sub("", match[0]) for match in _WORD.finditer(text)]
    for sign in filter(None, map(_OPERATOR.search, bare)):
        yield (
            f"`{sign[0]}` is for a shell, and there is none: write a script and call that; allowed are a program and "
            f'its arguments, or "{sign[0]}" in double quotes where the program itself wants it'
        )
        break  # what follows it, is of the same thought
    for sign in filter(None, map(_EXPANSION.search, bare)):
        yield (
            f"`{sign[0]}` is for a shell, and there is none: it would stay as it is; allowed is what it stands for, or "
            "double quotes around it where the program itself wants it so"
        )
    if any(map(_SINGLE_QUOTE.search, bare)):
        yield (
            "single quotes hold nothing together, and the program would get them too; allowed are double quotes around "
            "what has blanks in it"
        )


def _filled(word: str, facts: Facts) -> str:
    parts = placeholders.parts_of(word)
    is_path = any(_is_of_path(part) for part in parts)
    text = ""
    for part in parts:
        value = _value(part, facts, is_path=is_path)
        if not text and part.is_of_sender and value.startswith(_OPTION_SIGNS):
            raise JobFailed(
                f"{{{part.text}}} begins with {value[0]!r} here, which a program may take for an option; write "
                f"something in front of it, such as --name={{{part.text}}}, or let the program read "
                f"DCMSTORE_{part.text.upper()} of its environment",
                is_final=True,
            )
        if not is_path and part.is_of_sender and (_LEADS_OUT.match(value) or _LEADS_OUT.match(text + value)):
            raise JobFailed(
                f"{{{part.text}}} is a path that leads out of its folder here, and a program may follow it; put one "
                f"in front of it, such as /data/{{{part.text}}}, where it becomes a name, or let the program read "
                f"DCMSTORE_{part.text.upper()} of its environment",
                is_final=True,
            )
        text += value
    return text


def _is_of_path(part: Part) -> bool:
    if part.is_placeholder:
        return part.text in placeholders.PATHS
    return "/" in part.text or "\\" in part.text


def _value(part: Part, facts: Facts, *, is_path: bool) -> str:
    """Within a path, what a sender wrote is a name and no path: the one that its folder would have."""
    if not part.is_placeholder:
        return part.text
    if part.text not in placeholders.NAMES:
        raise JobFailed(next(placeholders.problems(f"{{{part.text}}}", str(facts["event"]))), is_final=True)
    value = values.of(facts, part.text)
    return names.folder_name(value.encode(), _UTF_8, _UNKNOWN) if is_path and part.is_of_sender else value


# --- batch files ---------------------------------------------------------------------------------


def is_batch_file(program: str) -> bool:
    return os.path.splitext(program.rstrip(" ."))[1].lower() in _BATCH_FILES


def require_safe_for_batch(line: CommandLine, arguments: list[str]) -> None:
    """Raises JobFailed. Only words with a placeholder are looked at: the others are as the ini has them."""
    for word, argument in zip(line.words[1:], arguments, strict=True):
        if placeholders.names_in(word) and not _SAFE_FOR_BATCH.fullmatch(argument):
            raise JobFailed(
                f"the value for {word} has a sign that cmd.exe could take for a command; call PowerShell, Python or "
                "another program in place of a batch file",
                is_final=True,
            )


def safe_for_batch(environment: dict[str, str]) -> dict[str, str]:
    """Without the variables that a batch file could not use safely, for cmd.exe reads them as text of the batch."""
    return {name: value if _SAFE_FOR_BATCH.fullmatch(value) else "" for name, value in environment.items()}
