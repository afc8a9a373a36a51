"""Access control of the preview: only this machine, or everyone who has the token.

A page of another site that is open in the same browser can send requests to 127.0.0.1, too. It cannot forge their Host
and Origin headers, so both are checked.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_TOKEN_BYTES = 24


@dataclass(frozen=True)
class Access:
    """Who may open the preview.

    Attributes:
        host: The address on which the server listens.
        token: What a viewer must send; empty if only this machine can reach `host`.
    """

    host: str
    token: str

    def refusal(self, headers: Mapping[str, str], sent_token: str) -> str | None:
        """The reason for refusing a request; None if it is allowed.

        Args:
            headers: The headers of the request, with lower-case names.
            sent_token: The token in the address of the request.
        """
        requested_host = headers.get("host", "")
        if not self.token and not is_loopback(_host_of(f"//{requested_host}")):
            return "this preview is available on this machine only; open the address that sr-edge printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != requested_host:
            return "pages of other sites are not allowed to open this preview"
        if self.token and not hmac.compare_digest(sent_token.encode(), self.token.encode()):
            return "the token is missing or wrong; open the address that sr-edge printed"
        return None

    def address(self, host_name: str, port: int) -> str:
        """The address to open in a browser."""
        host = f"[{host_name}]" if ":" in host_name else host_name
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")


def access_for(host: str) -> Access:
    """Access without a token if only this machine can reach `host`, otherwise with a new random token."""
    return Access(host, "" if is_loopback(host) else secrets.token_urlsafe(_TOKEN_BYTES))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
