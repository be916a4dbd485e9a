"""How every client reaches the cluster: its address, and where it asks for it, TLS and SASL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.helpers import create_ssl_context

from stream.runtime.errors import InsecureError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from stream.sections import KafkaSettings

__all__ = ["address_of", "connection"]


def address_of(cluster: KafkaSettings | str) -> str:
    """What to call the cluster in a message."""
    return cluster if isinstance(cluster, str) else cluster.bootstrap


def connection(cluster: KafkaSettings | str) -> dict[str, Any]:
    """Options of an aiokafka client.

    Parameters
    ----------
    cluster : KafkaSettings or str
        Settings, or the address of a cluster that asks for nothing.

    Raises
    ------
    InsecureError
        A file of certificates cannot be read or does not fit.
    """
    if isinstance(cluster, str):
        return {"bootstrap_servers": cluster}
    options: dict[str, Any] = {
        "bootstrap_servers": cluster.bootstrap,
        "security_protocol": cluster.security_protocol,
    }
    if cluster.security_protocol.endswith("SSL"):
        try:
            options["ssl_context"] = create_ssl_context(
                cafile=cluster.ssl_cafile,
                certfile=cluster.ssl_certfile,
                keyfile=cluster.ssl_keyfile,
                password=_told(cluster.ssl_key_password),
            )
        except (OSError, ValueError) as error:
            raise InsecureError(
                f"no TLS with NUDGE_KAFKA__SSL_CAFILE, __SSL_CERTFILE and __SSL_KEYFILE as they are: {error}"
            ) from error
    if cluster.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = cluster.sasl_mechanism
        options["sasl_plain_username"] = cluster.sasl_username
        options["sasl_plain_password"] = _told(cluster.sasl_password)
    return options


def _told(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
