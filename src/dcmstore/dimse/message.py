"""PDV fragments -> messages: the command set is gathered, the data set passes through (PS3.7 6.3, PS3.8 annex E)."""

from dcmstore.dimse import command
from dcmstore.dimse.command import CommandSet
from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul.framing import Fragment

MAX_COMMAND_SET = 16 * 1024  # bytes; real C-STORE requests are under 512


class MessageAssembly:
    """Keeps the messages of one association apart: one at a time, each on one presentation context."""

    def __init__(self) -> None:
        self._gathered = bytearray()
        self._context_id: int | None = None  # of the message under way
        self._in_data_set = False

    @property
    def is_between_messages(self) -> bool:
        return self._context_id is None

    def receive(self, fragment: Fragment) -> CommandSet | None:
        """Take the next fragment; return the command set that it completes, else None.

        A data set fragment changes only where the message ends: its bytes are the caller's. Raises ProtocolError
        on fragments in an order that PS3.8 annex E does not allow, or on a malformed command set.
        """
        if self._context_id not in (None, fragment.context_id):
            raise _unexpected(
                "presentation context ID", fragment.context_id, f"{self._context_id} until the message ends"
            )
        if fragment.is_command:
            return self._receive_command(fragment)
        if not self._in_data_set:
            raise _unexpected("message control header", "a data set fragment", "a command fragment")
        if fragment.is_last:
            self._end()
        return None

    def _receive_command(self, fragment: Fragment) -> CommandSet | None:
        if self._in_data_set:
            raise _unexpected("message control header", "a command fragment", "the rest of the data set")
        if len(self._gathered) + len(fragment.data) > MAX_COMMAND_SET:
            raise ProtocolError("command set length", f"more than {MAX_COMMAND_SET}", f"at most {MAX_COMMAND_SET}")
        self._context_id = fragment.context_id
        self._gathered += fragment.data
        if not fragment.is_last:
            return None
        encoded, self._gathered = bytes(self._gathered), bytearray()
        command_set = command.decode(encoded)
        if command_set.has_data_set:
            self._in_data_set = True
        else:
            self._end()
        return command_set

    def _end(self) -> None:
        self._context_id = None
        self._in_data_set = False


def _unexpected(field: str, got: object, allowed: str) -> ProtocolError:
    return ProtocolError(field, got, allowed, reason=AbortReason.UNEXPECTED_PDU_PARAMETER)
