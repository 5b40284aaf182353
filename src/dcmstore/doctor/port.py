"""settings -> who has the port, and as whom and from where this machine may call it."""

import contextlib
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, needs, scu, sockets, uids, wiring
from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.scu import Peer
from dcmstore.server import Endpoint, endpoints_of
from dcmstore.settings import Settings
from dcmstore.ul.pdu import AAssociateRQ

OWN_TITLE = "DCMSTORE-DOCTOR"  # the AE title to call as where everybody may send
PATIENCE = 20.0  # seconds for each answer; a receiver on a slow share may need some
CONNECT_PATIENCE = 3.0  # seconds for a connection within this machine


@dataclass(frozen=True, slots=True)
class _Network:
    """What the addresses of a family need. To `elsewhere` nothing is sent: asking for the way there names our own."""

    family: socket.AddressFamily
    loopback: str
    elsewhere: str


_IPV4 = _Network(socket.AF_INET, "127.0.0.1", "192.0.2.1")  # RFC 5737
_IPV6 = _Network(socket.AF_INET6, "::1", "2001:db8::1")  # RFC 3849


class Answerer(Enum):
    """Who has the port."""

    NOBODY = "it is free"
    OURS = "a receiver of this program"
    OTHER = "another program"
    UNKNOWN = "it can't be found out"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom to call and as whom; `refusal` is why these settings let nobody in from here, if they do not."""

    peer: Peer
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """One port as it was found. `peer` is whom a test object can be sent to there; without one, `why` not."""

    answerer: Answerer
    findings: tuple[Finding, ...]
    peer: Peer | None = None
    why: str = ""


def look(configuration: Configuration) -> list[Port]:
    """Each port of the settings, listened on for a moment if it is free, else called."""
    return [_look(configuration, endpoint) for endpoint in endpoints_of(configuration.settings)]


def _look(configuration: Configuration, endpoint: Endpoint) -> Port:
    settings = configuration.settings
    try:
        listener = sockets.listen(endpoint.address, endpoint.port)
    except ConfigurationError as error:
        return Port(Answerer.UNKNOWN, (bind_finding(configuration, error),))
    except OSError as error:
        return _taken(settings, endpoint, error)
    with listener:
        port = listener.getsockname()[1]
        return Port(Answerer.NOBODY, (_free(endpoint), *_reach(settings, endpoint, port)))


def bind_finding(configuration: Configuration, error: ConfigurationError) -> Finding:
    """What `sockets.listen` has against `bind`."""
    advice = "set it to an address of this machine, or to nothing for all of them"
    return fail(configuration.located(str(error)), advice)


def addresses(bind: str) -> list[str]:
    """Where this machine may call who listens so, the loopback address first when it is among them."""
    if bind not in needs.EVERY_ADDRESS:
        try:
            return [str(socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)[0][4][0])]
        except (OSError, UnicodeError):
            return [bind]
    networks = _networks(bind)
    return [networks[0].loopback, *_own_addresses(networks)]


def caller(settings: Settings, endpoint: Endpoint) -> Caller:
    """By an address and an AE title that the rules of access let in, if there are such.

    Raises ConfigurationError when the file of users can't be read.
    """
    access = wiring.access_of(settings)
    callers = []
    for host, title in itertools.product(addresses(endpoint.address), sorted(access.ae_titles) or [OWN_TITLE]):
        refusal = access.refusal(AAssociateRQ(settings.local_ae, title), host)
        peer = Peer(
            host=host,
            port=endpoint.port,
            called_ae_title=settings.local_ae,
            calling_ae_title=title,
            timeout=PATIENCE,
            tls=_any_certificate() if endpoint.is_secure else None,
        )
        callers.append(Caller(peer, (refusal.because or str(refusal.answer)) if refusal else ""))
    return next((caller for caller in callers if not caller.refusal), callers[0])


def _any_certificate() -> ssl.SSLContext:
    """This machine calls itself, and sends nothing that anybody may not read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- the port is free ----------------------------------------------------------------------------


def _free(endpoint: Endpoint) -> Finding:
    if not endpoint.port:
        return note("port= 0: another one at each start, which no sender can know", "set a port, such as 11112")
    return note(f"port {endpoint.port} is free: no receiver runs", "`dcmstore service start` or `dcmstore run`")


def _reach(settings: Settings, endpoint: Endpoint, port: int) -> Iterator[Finding]:
    """Whether this machine's own addresses lead to the port, while somebody listens on it."""
    reached = []
    for address in addresses(endpoint.address):
        try:
            socket.create_connection((address, port), CONNECT_PATIENCE).close()
            reached.append(address)
        except OSError as error:
            advice = "a firewall of this machine may block it: let it through for incoming TCP connections"
            yield fail(f"port {port} at {address}, an address of this machine: {reason_of(error)}", advice)
    outside = [address for address in reached if not _is_within(address)]
    if outside:
        secured = ", by TLS" if endpoint.is_secure else ""
        yield ok(
            f"port {port} is open at {' and '.join(outside)}, AE title {settings.local_ae}{secured}, for senders; "
            "whether the network between lets them through, only a sender can try"
        )
    elif reached and endpoint.address in needs.EVERY_ADDRESS:
        yield note(f"only this machine reaches port {port}: it has no other address", "see to its network connection")
    elif reached:
        advice = "set bind= to nothing if others send"
        yield note(f"only this machine reaches port {port}, for bind= {endpoint.address}", advice)


def _networks(bind: str) -> list[_Network]:
    """What `sockets.listen` opens."""
    if bind:
        return [_IPV6 if ":" in bind else _IPV4]
    return [_IPV4, _IPV6] if socket.has_dualstack_ipv6() else [_IPV4]


def _own_addresses(networks: list[_Network]) -> list[str]:
    """The addresses of this machine that its name and its ways out lead to, without those that stay within it."""
    found: dict[str, None] = {}
    for network in networks:
        with contextlib.suppress(OSError, UnicodeError):
            for answer in socket.getaddrinfo(socket.gethostname(), None, network.family, socket.SOCK_STREAM):
                found[str(answer[4][0])] = None
        with contextlib.suppress(OSError), socket.socket(network.family, socket.SOCK_DGRAM) as asking:
            asking.connect((network.elsewhere, 9))
            found[str(asking.getsockname()[0])] = None
    return [address for address in found if not _is_within(address)]


def _is_within(address: str) -> bool:
    """True for an address that other machines can't use as it stands."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_link_local


# --- somebody has the port -----------------------------------------------------------------------


def _taken(settings: Settings, endpoint: Endpoint, error: OSError) -> Port:
    port = endpoint.port
    try:
        called = caller(settings, endpoint)
    except ConfigurationError as problem:
        why = f"it is not known who may send: {problem}"
        text = f"port {port}: {needs.port_problem(error, port)}, and who has it can't be asked: {why}"
        return Port(Answerer.UNKNOWN, (note(text),), None, why)
    peer, refusal = called.peer, called.refusal
    if endpoint.is_secure and settings.tls_client == "required":
        why = "tls-client= required, and this test has no certificate"
        text = f"port {port}: {needs.port_problem(error, port)}, and who has it can't be asked: {why}"
        return Port(Answerer.UNKNOWN, (note(text),), None, why)
    try:
        with scu.associated(peer, {uids.VERIFICATION: (uids.IMPLICIT_VR_LITTLE_ENDIAN,)}) as association:
            information = association.peer_information
    except scu.Rejected as rejection:
        return _rejecting(settings, endpoint, peer, str(rejection), refusal)
    except scu.ScuFailed as failure:
        return _foreign(port, error, str(failure))
    if information.implementation_class_uid != IMPLEMENTATION_CLASS_UID:
        name = _shown(information.implementation_version_name or information.implementation_class_uid)
        return _foreign(port, error, f"it is another DICOM receiver, {name}")
    version = _shown(information.implementation_version_name)
    found = [ok(f"port {port}: a receiver of this program answers, {version}")]
    if information.implementation_version_name != IMPLEMENTATION_VERSION_NAME:
        found.append(note(f"it is {version}, and this is {IMPLEMENTATION_VERSION_NAME}", "stop and start the receiver"))
    if refusal:
        found.append(note(f"it lets in what this ini turns away: {refusal}", "`dcmstore reload`"))
    return Port(Answerer.OURS, (*found, *_reach(settings, endpoint, port)), peer)


def _rejecting(settings: Settings, endpoint: Endpoint, peer: Peer, rejection: str, refusal: str) -> Port:
    """It may be ours: a rejection does not say whose it is."""
    who = f"port {endpoint.port}: what answers there rejects {peer.calling_ae_title} from here ({rejection})"
    if refusal:
        finding = note(f"{who}, as this ini wants it: {refusal}")
    else:
        finding = fail(f"{who}, which this ini lets in", _ADVICE_ON_REJECTION)
    return Port(Answerer.UNKNOWN, (finding, *_reach(settings, endpoint, endpoint.port)), None, refusal or rejection)


_ADVICE_ON_REJECTION = (
    "if it is this receiver, it runs with other settings: `dcmstore reload`; if all its associations are in use, "
    "try again later"
)


def _foreign(port: int, error: OSError, why: str) -> Port:
    text = f"port {port}: {needs.port_problem(error, port)} ({why})"
    is_withheld = isinstance(error, PermissionError)
    advice = needs.port_advice(error) if is_withheld else "end that program, or set another `port` and tell the senders"
    return Port(Answerer.OTHER, (fail(text, advice),), None, why)


def _shown(text: str) -> str:
    """What a peer wrote, without what a terminal would obey."""
    return text if text.isprintable() else repr(text)
