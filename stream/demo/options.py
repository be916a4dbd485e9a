"""What a demo is asked to do, and the settings of its worker."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream.settings import Settings

__all__ = ["CAMPAIGNS", "SHOP_S", "DemoOptions", "environment_of", "settings_of"]

CAMPAIGNS = Path(__file__).with_name("campaigns.yaml")
SHOP_S = 5 * 3600.0
"""Shop time that passes in a demo: enough for half-hour delays, hour-long cooldowns and daily caps."""

# A shopper answers within minutes. With the default of a day no decision of the demo would ever count as
# unanswered, and a bandit that is told of successes alone learns nothing.
DECISION_WINDOW_S = 900.0
CLICK_WINDOW_S = 300.0
CLEAR: Final[dict[str, str | None]] = {
    "security_protocol": "PLAINTEXT",
    **dict.fromkeys(("sasl_username", "sasl_password"), None),
    **dict.fromkeys(("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password"), None),
}
_OF_CLEAR: Final = {f"NUDGE_KAFKA__{name.upper()}" for name in CLEAR}
_SECRETS: Final = {"NUDGE_KAFKA__SASL_PASSWORD", "NUDGE_KAFKA__SSL_KEY_PASSWORD"}


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of :func:`stream.demo.run_demo`.

    Attributes
    ----------
    seconds : float
        How long the feed runs; start and end are apart.
    rate : float
        Events per second.
    seed : int
        Of the shop and of the worker's draws.
    bootstrap : str or None
        A Kafka that is there already; without one, an embedded broker is started.
    events : Path or None
        Canonical events to stream in place of the simulated shop's, in file order.
    catalogue, offers : Path or None
        Reference records that go with a file of events.
    campaigns : Path or None
        Campaigns, YAML or JSON; the demo's own when not given.
    as_json : bool
        Print the summary as JSON on stdout.
    keep : bool
        Leave the topics on a given Kafka; else those that the demo made are deleted at the end.
    """

    seconds: float = 25.0
    rate: float = 500.0
    seed: int = 7
    bootstrap: str | None = None
    events: Path | None = None
    catalogue: Path | None = None
    offers: Path | None = None
    campaigns: Path | None = None
    as_json: bool = False
    keep: bool = False


def settings_of(options: DemoOptions, bootstrap: str, metrics_port: int) -> Settings:
    """Build the worker's settings: the environment's, and what the demo must have otherwise.

    Each demo has topics and a group of its own, so that it meets nobody's on a given Kafka.
    """
    name = f"nudge-demo-{secrets.token_hex(4)}"
    own = {} if options.bootstrap else CLEAR  # a broker of the demo's own asks nobody who they are
    return Settings(
        seed=options.seed,
        metrics_port=metrics_port,
        attribution={"decision_window_s": DECISION_WINDOW_S, "click_window_s": CLICK_WINDOW_S},
        kafka={"bootstrap": bootstrap, "group": name, "topic_prefix": f"{name}."} | own,
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """Write the environment of a process that has these settings: ours, and each setting as a variable.

    >>> environment_of(Settings(seed=7))["NUDGE_SEED"]
    '7'
    """
    shown = {f"NUDGE_{name.upper()}": value for name, value in _flat(settings.model_dump(mode="json"))}
    clear = settings.kafka.security_protocol == "PLAINTEXT"
    ours = {name: value for name, value in os.environ.items() if not (clear and name in _OF_CLEAR)}
    return ours | {name: value for name, value in shown.items() if name not in _SECRETS}


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict) and name != "purposes":
            yield from ((f"{name}__{inner}", text) for inner, text in _flat(value))
        elif value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
