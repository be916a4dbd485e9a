"""All metrics in one table, and how counts of the engine become them; ``docs/metrics.md`` lists the same.

Labels come from closed sets. Campaigns, offers, segments and currencies are data, so of each the first fifty
get a label of their own and the rest share ``other``, except for money, which would be added there.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.reasons import RejectCode

if TYPE_CHECKING:
    from online_models.gate import ChallengerGate

__all__ = ["CONTENT_TYPE", "METRICS", "MetricSpec", "Metrics", "markdown_table"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_IDS: Final = 50
OTHER: Final = "other"
LATENCY_BUCKETS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)

Kind = Literal["counter", "gauge", "histogram", "freshness"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric; ``name`` is without the prefix ``nudge_`` and, for counters, without ``_total``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it."""
        return f"nudge_{self.name}{'_total' if self.kind == 'counter' else ''}"


METRICS: Final[tuple[MetricSpec, ...]] = (
    MetricSpec("events_consumed", "counter", "Input records whose effects are committed."),
    MetricSpec("events_accepted", "counter", "Input records that were accepted."),
    MetricSpec("events_unknown", "counter", "Accepted events whose name means nothing to us."),
    MetricSpec(
        "events_faulty",
        "counter",
        "Accepted orders, refunds, cancellations and answers whose records are faulty, by reject code.",
        ("code",),
    ),
    MetricSpec(
        "events_foreign_key",
        "counter",
        "Accepted events whose record key is not their user's id: of a user with two keys each partition "
        "knows a part.",
    ),
    MetricSpec("events_duplicate", "counter", "Input records seen before, dropped."),
    MetricSpec("events_rejected", "counter", "Input records that ended as dead letters.", ("code",)),
    MetricSpec("batch_processing_seconds", "histogram", "From a batch's first record to its commit."),
    MetricSpec(
        "event_to_effect_seconds",
        "freshness",
        "From the broker's append time of an event to the commit of its effects.",
    ),
    MetricSpec("consumer_lag_records", "gauge", "Records between the position and the end.", ("partition",)),
    MetricSpec(
        "partition_stalled_seconds",
        "gauge",
        "How long a partition has had records to read and no commit, or has been on its way to be open.",
        ("partition",),
    ),
    MetricSpec(
        "broker_silent_seconds", "gauge", "How long not all brokers of the input have answered when asked."
    ),
    MetricSpec("recommendations", "counter", "Recommendations by what became of them.", ("outcome",)),
    MetricSpec(
        "triggers", "counter", "Campaign messages by what became of them.", ("campaign", "outcome", "reason")
    ),
    MetricSpec(
        "campaign_revenue",
        "counter",
        "Money of orders within the window after a message, by last touch.",
        ("campaign", "currency"),
    ),
    MetricSpec(
        "lift_users",
        "gauge",
        "Users of a campaign's experiment (`*`: of all campaigns) in this worker's partitions.",
        ("campaign", "arm", "outcome"),
    ),
    MetricSpec(
        "lift_conversion_rate",
        "gauge",
        "Conversion rate of treated minus held-out users in this worker's partitions, with bounds that hold "
        "at all times.",
        ("campaign", "bound"),
    ),
    MetricSpec(
        "lift_sample_ratio_p_value",
        "gauge",
        "Sequential p-value of the split into treated and held-out users; near 0 it is broken.",
        ("campaign",),
    ),
    MetricSpec("offer_selections", "counter", "Offers chosen by the bandit.", ("offer",)),
    MetricSpec(
        "commands",
        "counter",
        "Operators' commands that were obeyed or rejected, once for each partition.",
        ("kind",),
    ),
    MetricSpec("switches_stopped", "gauge", "What operators have stopped, switches.", ("partition",)),
    MetricSpec("segment_changes", "counter", "Users who entered or left a segment.", ("segment", "outcome")),
    MetricSpec("transactions", "counter", "Batches by how their transaction ended.", ("outcome",)),
    MetricSpec("rebuilds", "counter", "Partitions dropped and restored after an error."),
    MetricSpec("loop_lag_seconds", "histogram", "How late the event loop came back to a timer."),
    MetricSpec("loop_tasks", "gauge", "Tasks of the event loop that have not ended."),
    MetricSpec("state_users", "gauge", "Users remembered.", ("partition",)),
    MetricSpec(
        "state_cache_writes", "counter", "Copies of user state on disk, by how it ended.", ("outcome",)
    ),
    MetricSpec("state_restore_seconds", "histogram", "From fencing a partition to its first batch."),
    MetricSpec(
        "model_quality",
        "gauge",
        "Progressive measures of a model (`log_loss`, `recall_at_10`, ...): scored before learned.",
        ("model", "measure"),
    ),
    MetricSpec(
        "challenger_log_wealth",
        "gauge",
        "Evidence of this round that the model which did not win the last is better; at "
        "log(k (k + 1) / alpha) in round k it wins.",
        ("model",),
    ),
    MetricSpec(
        "challenger_gain",
        "gauge",
        "Mean gain of the challenger in this round: log loss of clicks, reciprocal rank of recommendations.",
        ("model",),
    ),
    MetricSpec("challenger_examples", "gauge", "Examples compared in this round.", ("model",)),
    MetricSpec(
        "challenger_round",
        "gauge",
        "Round of the test, from 1: the challenger has to prove better in odd ones, the incumbent in even; "
        "at 9 it is over.",
        ("model",),
    ),
    MetricSpec(
        "challenger_serves", "gauge", "1 while the challenger has won and serves, else 0.", ("model",)
    ),
    MetricSpec(
        "recent_log_loss",
        "gauge",
        "Log loss of the last day of event time or so (half-life 1 d), scored before learned, nats.",
        ("model",),
    ),
    MetricSpec(
        "recent_normalised_entropy",
        "gauge",
        "The same over the entropy of the base rate; below 1 the features tell something.",
        ("model",),
    ),
    MetricSpec(
        "recent_calibration_ratio",
        "gauge",
        "Predicted over observed positives of the last day or so; 1 is right.",
        ("model",),
    ),
    MetricSpec(
        "recent_slate_hit_rate",
        "gauge",
        "How often the next item of a user was in the slate shown, and among as many of the most popular.",
        ("list",),
    ),
    MetricSpec(
        "recent_catalogue_coverage", "gauge", "Share of the catalogue that stood in a slate lately.", ()
    ),
    MetricSpec(
        "recent_exposure_gini",
        "gauge",
        "Gini coefficient of the catalogue's places in slates; 0 is equal.",
        (),
    ),
    MetricSpec(
        "recent_offer_entropy", "gauge", "Entropy of the offers chosen lately, nothing included, nats.", ()
    ),
    MetricSpec(
        "recent_offer_policy_value",
        "gauge",
        "Answers per decision of the offers' policy as it ran, and by IPS of the greedy and the uniform one; "
        "95 % bounds.",
        ("policy", "bound"),
    ),
    MetricSpec(
        "model_drift_alarms",
        "counter",
        "Times a model's error had risen (ADWIN); it forgets faster over the next day of events.",
        ("model",),
    ),
    MetricSpec("model_delta_bytes", "counter", "Bytes of published model deltas."),
    MetricSpec(
        "model_snapshots",
        "counter",
        "Model snapshots by what became of them; the owner of partition 0 writes them.",
        ("outcome",),
    ),
    MetricSpec(
        "reference_records_skipped", "counter", "Reference records that could not be read.", ("topic",)
    ),
    MetricSpec("start_time_seconds", "gauge", "When the worker started, seconds since the epoch."),
    MetricSpec("build_info", "gauge", "Always 1; labelled with the version.", ("version",)),
)


# A labelled counter that is born with its first count shows no increase: those of closed sets start at 0.
BORN_AT_ZERO: Final[Mapping[str, Iterable[str]]] = {
    "events_rejected": tuple(code.value for code in RejectCode),
    "recommendations": ("emitted", "empty"),
    "commands": ("erase", "stop", "resume", "rejected"),
    "transactions": ("committed", "aborted"),
    "model_snapshots": ("written", "failed"),
    "model_drift_alarms": ("clicks", "offers"),
}


class _Freshness(Collector):
    """A histogram that takes a batch at once: ``observe`` per record costs more than its decode."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._sum = 0.0

    def observe_many(self, seconds: Iterable[float]) -> None:
        """Count values; a broker's clock ahead of ours makes a negative one, which counts as 0."""
        for value in seconds:
            self._counts[bisect_left(LATENCY_BUCKETS_S, value)] += 1
            self._sum += max(value, 0.0)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give the cumulative buckets."""
        family = HistogramMetricFamily(self._name, self._documentation)
        total, buckets = 0, []
        for bound, count in zip((*LATENCY_BUCKETS_S, math.inf), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if math.isinf(bound) else repr(bound), total))
        family.add_metric([], buckets, self._sum)
        yield family


class _LateGauge(Gauge):
    """A gauge without labels that has no value until it is set, as those with labels have none."""

    _told = False

    def set(self, value: float) -> None:
        """Set the value."""
        self._told = True
        super().set(value)

    def collect(self) -> Iterable[Metric]:
        """Give the value, if there is one."""
        return super().collect() if self._told else self.describe()


class _Ids:
    """The first ids that come get a label of their own."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if name not in self._known and len(self._known) < MAX_IDS:
            self._known.add(name)
        return name if name in self._known else OTHER


class Metrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._metrics: dict[str, Any] = {spec.name: _make(spec, self.registry) for spec in METRICS}
        self._campaigns, self._offers, self._currencies, self._segments = _Ids(), _Ids(), _Ids(), _Ids()
        self["build_info"].labels(version).set(1)
        self["start_time_seconds"].set_to_current_time()
        for name, values in BORN_AT_ZERO.items():
            for value in values:
                self[name].labels(value)

    def __getitem__(self, name: str) -> Any:
        """Return a metric of the table."""
        return self._metrics[name]

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, counts: Mapping[tuple[str, ...], int]) -> None:
        """Add the counts of a committed batch."""
        for key, n in counts.items():
            match key:
                case (("read" | "accepted" | "unknown" | "duplicate" | "foreign_key") as fate,):
                    self["events_consumed" if fate == "read" else f"events_{fate}"].inc(n)
                case ("faulty", code):
                    self["events_faulty"].labels(code).inc(n)
                case ("rejected", code):
                    self["events_rejected"].labels(code).inc(n)
                case ("recommendation", outcome):
                    self["recommendations"].labels(outcome).inc(n)
                case ("command", kind):
                    self["commands"].labels(kind).inc(n)
                case ("offer", offer):
                    self["offer_selections"].labels(self._offers.label(offer)).inc(n)
                case ("segment", segment, outcome):
                    label = self._segments.label(segment)
                    self["segment_changes"].labels(label, outcome).inc(n)
                case ("campaign", campaign, outcome, *reason):
                    label = self._campaigns.label(campaign)
                    self["triggers"].labels(label, outcome, reason[0] if reason else "").inc(n)
                case _:
                    raise ValueError(f"the engine counts {key}, which no metric shows; add it to METRICS")

    def count_revenue(self, revenue: Mapping[tuple[str, str], float]) -> None:
        """Add the revenue of a committed batch; that in currencies without a label would be no sum."""
        for (campaign, name), amount in revenue.items():
            if (currency := self._currencies.label(name)) != OTHER:
                self["campaign_revenue"].labels(self._campaigns.label(campaign), currency).inc(amount)

    def show_lift(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Show the report of :func:`stream.report.lift`, of campaigns that have a label of their own."""
        for name in ("lift_users", "lift_conversion_rate", "lift_sample_ratio_p_value"):
            self[name].clear()
        for campaign, told in found.items():
            if self._campaigns.label(campaign) != campaign:
                continue
            for arm in ("treated", "control"):
                for outcome in ("assigned", "users", "converted"):
                    self["lift_users"].labels(campaign, arm, outcome).set(told[arm][outcome])
            for bound, value in told["conversion"].items():
                if value is not None:
                    self["lift_conversion_rate"].labels(campaign, bound).set(value)
            self["lift_sample_ratio_p_value"].labels(campaign).set(told["sample_ratio"]["p_value"])

    def show_quality(self, found: Mapping[str, Mapping[str, float]]) -> None:
        """Show what :meth:`stream.core.quality.LiveQuality.snapshot` tells."""
        for measure, numbers in found.items():
            gauge = self[f"recent_{measure}"]
            for name, number in numbers.items():
                (gauge.labels(*name.split(".")) if name else gauge).set(number)

    def show_trial(self, model: str, gate: ChallengerGate, *, serves: bool) -> None:
        """Show how a challenger stands."""
        self["challenger_log_wealth"].labels(model).set(gate.log_wealth())
        self["challenger_gain"].labels(model).set(gate.mean_difference)
        self["challenger_examples"].labels(model).set(gate.n)
        self["challenger_round"].labels(model).set(gate.round)
        self["challenger_serves"].labels(model).set(float(serves))


def markdown_table() -> str:
    """The table of ``docs/metrics.md``."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for spec in METRICS:
        kind = "histogram" if spec.kind == "freshness" else spec.kind
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        lines.append(f"| `{spec.full_name}` | {kind} | {labels} | {spec.help} |")
    return "\n".join(lines) + "\n"


def _make(spec: MetricSpec, registry: CollectorRegistry) -> Counter | Gauge | Histogram | _Freshness:
    name = f"nudge_{spec.name}"
    match spec.kind:
        case "counter":
            return Counter(name, spec.help, spec.labels, registry=registry)
        case "gauge":
            kind = Gauge if spec.labels else _LateGauge
            return kind(name, spec.help, spec.labels, registry=registry)
        case "histogram":
            return Histogram(name, spec.help, spec.labels, registry=registry, buckets=LATENCY_BUCKETS_S)
        case "freshness":
            freshness = _Freshness(name, spec.help)
            registry.register(freshness)
            return freshness
