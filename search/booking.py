"""What each unit of a distributed run books of a cluster, and whether the cluster has it.

Nothing here imports Ray: a node is a mapping of its resources, as Ray words them (CPU, GPU).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

Bundle = dict[str, float]


@dataclass(frozen=True)
class Booking:
    """A bundle for the process that drives the unit, and one for each process that does shards for it.

    Attributes:
        threads: cores of each of these processes.
        gpus: of the driving process; whole, or a part of one.
        workers: further processes.
        gpus_per_worker: of each of them.

    Raises:
        ValueError: a number is out of its range.
    """

    threads: int
    gpus: float = 0.0
    workers: int = 0
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        if self.threads < 1 or self.workers < 0 or not _bookable(self.gpus) or not _bookable(self.gpus_per_worker):
            raise ValueError(
                "threads >= 1, workers >= 0, gpus >= 0 and gpus_per_worker >= 0, whole above 1, must hold, but got "
                f"(threads={self.threads}, workers={self.workers}, gpus={self.gpus}, "
                f"gpus_per_worker={self.gpus_per_worker})"
            )

    @property
    def bundles(self) -> list[Bundle]:
        """The bundles, that of the driving process first."""
        gpus = [self.gpus, *[self.gpus_per_worker] * self.workers]
        return [{"CPU": float(self.threads), **({"GPU": float(number)} if number else {})} for number in gpus]

    @property
    def all_gpus(self) -> float:
        """GPUs of all bundles."""
        return self.gpus + self.workers * self.gpus_per_worker

    def fits(self, nodes: Iterable[Mapping[str, float]]) -> bool:
        """Whether nodes that are free could hold all bundles, each bundle on one node."""
        free = [{"CPU": node.get("CPU", 0.0), "GPU": node.get("GPU", 0.0)} for node in nodes]
        for bundle in sorted(self.bundles, key=lambda bundle: -bundle.get("GPU", 0.0)):
            # Bundles without a GPU go first where no GPU is, so that they take no core beside one.
            able = [node for node in free if all(node[name] >= amount for name, amount in bundle.items())]
            if not able:
                return False
            node = min(able, key=lambda node: node["GPU"] if "GPU" not in bundle else 0.0)
            for name, amount in bundle.items():
                node[name] -= amount
        return True

    def fitting(self, nodes: Iterable[Mapping[str, float]]) -> Booking:
        """This booking with as many of its workers as the nodes could hold."""
        nodes = list(nodes)
        fewer = (replace(self, workers=workers) for workers in range(self.workers, 0, -1))
        return next((booking for booking in fewer if booking.fits(nodes)), replace(self, workers=0))


def _bookable(gpus: float) -> bool:
    return 0 <= gpus < float("inf") and (gpus <= 1 or gpus % 1 == 0)
