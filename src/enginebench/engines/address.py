"""Where an engine answers."""

import socket
import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of an engine, and how to connect."""

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None  # certificates to trust instead of the system's
    token: str | None = field(default=None, repr=False)  # sent as a bearer token, never written

    def context(self) -> ssl.SSLContext | None:
        """The TLS context; None without TLS.

        Raises:
            OSError: ``ca_file`` cannot be read (ssl.SSLError is one).
        """
        return ssl.create_default_context(cafile=self.ca_file) if self.tls else None

    def resolve(self) -> tuple[socket.AddressFamily, tuple[object, ...]]:
        """Family and socket address; to be called once, before the clock starts.

        Raises:
            OSError: the host has no address.
        """
        (family, _, _, _, place), *_ = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        )
        return family, place
