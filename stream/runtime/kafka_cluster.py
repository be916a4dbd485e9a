"""Several Apache Kafkas on this machine that replicate to one another, for the fault tests."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from stream.runtime.broker import KafkaBroker, free_ports

__all__ = ["KafkaCluster"]


class KafkaCluster:
    """Apache Kafka on several nodes, each broker and controller: what is acknowledged survives one of them.

    Replication is the number of nodes, and all but one must have a record before it is acknowledged.

    Attributes
    ----------
    nodes
        The brokers; each can be stopped, killed, frozen and started again alone.
    """

    def __init__(self, brokers: int = 3, *, data_dir: Path | None = None, heap_mib: int = 320) -> None:
        self._own_dir = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="nudge-kafka-cluster-"))
        ports = free_ports(2 * brokers)
        pairs = list(zip(ports[::2], ports[1::2], strict=True))
        common = {
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{c}" for n, (_, c) in enumerate(pairs, 1)),
            "default.replication.factor": str(brokers),
            "min.insync.replicas": str(max(brokers - 1, 1)),
            "offsets.topic.replication.factor": str(brokers),
            "transaction.state.log.replication.factor": str(brokers),
            "transaction.state.log.min.isr": str(max(brokers - 1, 1)),
        }
        self.nodes = [
            KafkaBroker(
                self.data_dir / f"node-{n}",
                overrides=common | {"node.id": str(n)},
                ports=pair,
                heap_mib=heap_mib,
            )
            for n, pair in enumerate(pairs, 1)
        ]

    @property
    def bootstrap(self) -> str:
        """Addresses of all nodes, comma separated."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self) -> str:
        """Start the nodes that do not run, together, for alone none has a quorum; return `bootstrap`."""
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as pool:
            list(pool.map(lambda node: node.start(), self.nodes))
        return self.bootstrap

    def stop(self) -> None:
        """End all nodes cleanly, together, and keep the data."""
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as pool:
            list(pool.map(lambda node: node.stop(), self.nodes))

    def close(self) -> None:
        """Kill what runs and remove the data directory if it was made for this cluster."""
        for node in self.nodes:
            node.kill()
        if self._own_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
