"""Where a bucket is; known without the library that speaks to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_CHECKSUMS: Final = {"sha256": "SHA256", "crc64nvme": "crc64nvme"}


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where a bucket is, and how it is spoken to.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://...`` or ``az://...``.
    endpoint, region
        Of the server; empty for what the environment says, else the vendor's own.
    allow_http
        Whether an endpoint without TLS will do.
    path_style
        Whether the bucket is named in the path of a URL, not in its host.
    checksum
        What objects are sent with beside the signature: "sha256", "crc64nvme" or "none".
    deadline_s
        Seconds that a request is repeated for while the server fails.
    observe
        Called with each request ("put", "get", "head", "delete"), "ok", "missing" or "failed",
        and the seconds it took.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    allow_http: bool = False
    path_style: bool = True
    checksum: str = "sha256"
    deadline_s: float = 30.0
    observe: Callable[[str, str, float], None] | None = None

    @property
    def scheme(self) -> str:
        """Which protocol: "s3", "gs" or "az"."""
        return urlsplit(self.url).scheme

    def options(self) -> dict[str, Any]:
        """Return what obstore wants to know of it, beside credentials."""
        options: dict[str, Any] = {}
        if self.endpoint:
            options["base_url" if self.scheme == "gs" else "endpoint"] = self.endpoint
        if self.scheme == "s3":
            options["virtual_hosted_style_request"] = not self.path_style
            # One object at a time is deleted here, and not every server knows the other way.
            options["disable_bulk_delete"] = True
            if self.region:
                options["region"] = self.region
            if self.checksum in _CHECKSUMS:
                options["checksum_algorithm"] = _CHECKSUMS[self.checksum]
        return options
