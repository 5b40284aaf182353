"""A sender that a stop has to wait for: it begins an object, and sends a byte of it a second for a minute."""

import contextlib
import socket
import sys
import time

sys.path.append("/opt/dcmstore/lib/python3.11/site-packages")

from dcmstore import uids
from dcmstore.ul import pdu
from dcmstore.ul.items import ProposedContext, UserInformation
from dcmstore.ul.pdu import AAssociateRQ

CT = "1.2.840.10008.5.1.4.1.1.2"
contexts = (ProposedContext(1, CT, (uids.EXPLICIT_VR_LITTLE_ENDIAN,)),)
with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", 11112)) as peer:
    peer.sendall(pdu.encode(AAssociateRQ("DCMSTORE", "HALF", contexts, UserInformation(16384, "1.2.3"))))
    peer.recv(65536)
    peer.sendall(
        b"\x04\x00\x00\x00\x20\x00"  # P-DATA-TF, 8192 bytes
        b"\x00\x00\x1f\xfc\x01\x01"  # a PDV of 8188 bytes, context 1, the command set, more to come
    )
    for _ in range(65):
        peer.sendall(b"\x00")
        time.sleep(1)
