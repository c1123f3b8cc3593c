"""Where an engine answers."""

import socket
import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine answers."""

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None  # certificates to trust instead of the system's
    token: str | None = field(default=None, repr=False)  # sent as a bearer token, never written

    def context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca_file) if self.tls else None

    def resolve(self) -> tuple[socket.AddressFamily, tuple[object, ...]]:
        """Family and socket address; looked up once, before any clock runs."""
        (family, _, _, _, place), *_ = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        )
        return family, place
