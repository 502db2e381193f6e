"""How the settings let others reach the service.

It imports little, because the parent of workers needs it.
"""

from promcompat.http.tls import TlsFiles
from promcompat.settings import Settings


def tls_files(settings: Settings) -> TlsFiles | None:
    """Where the certificates of the HTTP server are; None for plain HTTP."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(
        certificate=settings.tls_cert_file,
        key=settings.tls_key_file,
        client_authorities=settings.tls_client_ca_file,
        client_auth=settings.tls_client_auth,
        min_version=settings.tls_min_version,
    )
