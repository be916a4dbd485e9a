"""Prequential evaluation of the recommendation models: every positive event is ranked before it is learned.

The events run through the production's cleaning, profiles and learner, so the models see what a worker's
would see; lists are those of the service form, the candidates of the blend. Baselines rank the catalogue.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.codec import Rejected, decode
from schemas.reasons import EventKind
from stream.assembly import build_models
from stream.core import profiles
from stream.core.cleaning import Cleaner
from stream.core.learning import Learner, asker_of
from stream.core.reference import Rows
from stream.core.state import PartitionState
from stream.evaluate.baselines import POPULARITY, RANKING
from stream.evaluate.baselines.biased_mf import RiverBiasedMF
from stream.evaluate.baselines.catalogue import Catalogue, place, top
from stream.evaluate.baselines.isgd import IncrementalSGD
from stream.evaluate.baselines.item_knn import MAX_DENSE_ITEMS, DensePairs, ItemCosine, SparsePairs
from stream.evaluate.baselines.popularity import DecayedCounts
from stream.evaluate.lines import Rejects, numbered_lines
from stream.evaluate.ranks import N_SHOWN, Occasions, Shown, report_ranks
from stream.reading import BadFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.catalogue import Item
    from schemas.events import Event
    from stream.core.profiles import Moment
    from stream.core.rows import ModelMemory
    from stream.evaluate.baselines.catalogue import Ranker
    from stream.reading import ItemVersion
    from stream.settings import Settings

__all__ = ["Protocol", "evaluate_recommend", "read_events"]

OURS = "nudge"
BATCH = 1000
DAY_S = 86_400.0
SESSION_START_S = DAY_S
MAX_SCORES = 2e9  # of a factor model over the whole run: some ten minutes
NEW_ITEM_EVENTS = 10  # an item chosen less often before is new
GATE = (*POPULARITY, "item_knn")
NO_ITEMS: NDArray[np.int64] = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is scored.

    Attributes
    ----------
    positive : frozenset of str
        Names of the events whose items are targets. A review is positive from four stars on.
    depths : tuple of int
        Lengths of list for recall and NDCG; 10 and 20 are always among them.
    repeats : bool
        Whether an item that the user already took is ranked and scored again.
    warm_up : float
        Share of the positive events, the first ones, that teach and are not scored.
    """

    positive: frozenset[str]
    depths: tuple[int, ...] = (10, 20)
    repeats: bool = False
    warm_up: float = 0.1


def read_events(path: Path, rejects: Rejects) -> tuple[list[Event], int]:
    """Read events and sort them by time; events of the same time keep the file's order.

    Returns
    -------
    list of Event
        Those that decode; the others are noted in ``rejects``.
    int
        How many lines came before an event of an earlier time: 0 means that the file was sorted.
    """
    events: list[Event] = []
    for number, line in numbered_lines(path):
        event = decode(line)
        if isinstance(event, Rejected):
            rejects.add(number, event.code.value, f"{event.path}: {event.message}")
        elif event.fault:  # it counts, and teaches nothing
            rejects.add(number, event.fault.code.value, f"{event.fault.path}: {event.fault.message}")
        else:
            events.append(event)
    rejects.require(len(events), "event")
    moved = sum(one.time > other.time for one, other in pairwise(events))
    events.sort(key=lambda event: event.time)
    return events, moved


def evaluate_recommend(
    settings: Settings,
    path: Path,
    protocol: Protocol,
    *,
    baselines: Collection[str] | None = None,
    catalogue: Mapping[str, Item] | None = None,
    versions: Sequence[ItemVersion] = (),
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run a file of events through the models and the baselines; return the report.

    Parameters
    ----------
    baselines : collection of str, optional
        Names of those to run. By default all that do not have to score too many items too often.
    catalogue : mapping of str to Item, optional
        Reference records by id, each in force from its ``updated_at`` on. With them our models can propose
        what nobody has met, and such a target is no miss for them.
    versions : sequence of (float, Item), optional
        Records as they became later, in order of time.

    Raises
    ------
    BadFileError
        The file cannot be read, or holds no positive event to score.
    """
    rejects = Rejects(path)
    events, moved = read_events(path, rejects)
    targets = [event for event in events if event.name in protocol.positive and _is_positive(event)]
    if not targets:
        names = sorted({event.name for event in events})[:10]
        message = (
            f"{path}: none of {len(events)} events is a positive {' or '.join(sorted(protocol.positive))}; "
            f"names in the file: {', '.join(names)} (--positive); only events that "
            "Nudge knows and that carry products can be targets"
        )
        raise BadFileError(message)
    rankers, skipped = _rankers(baselines, events, len(targets), settings.seed)
    warm_up = int(protocol.warm_up * len(targets))
    run = _Run(settings, protocol, rankers, warm_up=warm_up, catalogue=catalogue, versions=versions)
    run.play(events, progress)
    if not run.occasions:
        message = (
            f"{path}: {len(targets)} positive events, none left to score after repeats and the first "
            f"{run.warm_up} (--warm-up {protocol.warm_up}); give more events or --repeats allow"
        )
        raise BadFileError(message)
    n_items = len(run.catalogue)
    report = report_ranks(run.shown, run.occasions, protocol.depths, n_items)
    gate = [name for name in GATE if name in report["baselines"]]
    report |= {
        "gate": {
            "against": gate,
            "passed": all(report["baselines"][name]["lead"]["recall_at_10"]["value"] > 0.0 for name in gate)
            if gate
            else None,
        },
        "events": {
            "read": len(events) + rejects.counts.total(),
            "accepted": len(events) - run.rejected.total(),
            "rejected": dict(sorted((rejects.counts + run.rejected).items())),
            "examples": rejects.examples,
            "out_of_order": moved,
            "positive": len(targets),
        },
        "protocol": {
            "positive": sorted(protocol.positive),
            "repeats": "allow" if protocol.repeats else "exclude",
            "repeats_not_scored": run.repeats_not_scored,
            "warm_up_events": run.warm_up,
            "items": n_items,
            "users": len(run.users),
            "unknown_targets": run.unknown_targets,
            "targets_among_candidates": run.n_candidate_targets / len(run.occasions),
        },
        "baselines_skipped": skipped,
    }
    return report


def _is_positive(event: Event) -> bool:
    """An event about items; of the kinds that models learn, one that shows interest (a review: 4 stars)."""
    if event.kind in profiles.INTERACTIONS:
        return profiles.shows_interest(event)
    return bool(event.items)


def _rankers(
    names: Collection[str] | None, events: Sequence[Event], n_targets: int, seed: int
) -> tuple[list[Ranker], dict[str, str]]:
    """The baselines asked for, and why others of them are not there."""
    n_items = len({item.product_id for event in events for item in event.items})
    skipped: dict[str, str] = {}
    if names is None and n_targets * n_items > MAX_SCORES:
        reason = f"{n_targets} targets x {n_items} items; more than {MAX_SCORES:g} scores only by --baselines"
        skipped |= dict.fromkeys(("isgd", "river_biased_mf"), reason)
    asked = [name for name in RANKING if name in (names if names is not None else RANKING)]
    makers: dict[str, Callable[[], Ranker]] = {
        **{name: partial(DecayedCounts, days * DAY_S, name) for name, days in POPULARITY.items()},
        "item_knn": lambda: ItemCosine(DensePairs() if n_items <= MAX_DENSE_ITEMS else SparsePairs()),
        "isgd": lambda: IncrementalSGD(seed),
        "river_biased_mf": lambda: RiverBiasedMF(seed),
    }
    rankers = [makers[name]() for name in asked if name not in skipped]
    return rankers, {name: reason for name, reason in skipped.items() if name in asked}


class _Run:
    """One pass over the events."""

    def __init__(
        self,
        settings: Settings,
        protocol: Protocol,
        rankers: list[Ranker],
        *,
        warm_up: int,
        catalogue: Mapping[str, Item] | None,
        versions: Sequence[ItemVersion],
    ) -> None:
        config = settings.engine_config()
        self._models = build_models(settings)
        self._items = Rows(catalogue)
        self._versions = deque(versions)
        self._learner = Learner(self._models, items=self._items)
        self._cleaner = Cleaner(config.cleaning)
        self._state = PartitionState(config.max_users, ttl_s=config.user_ttl_s)
        self._protocol = protocol
        self._rankers = rankers
        self._fallback = DecayedCounts(7 * DAY_S, "fallback")  # for users whom a ranker does not know
        self._taken: defaultdict[int, dict[str, int]] = defaultdict(dict)  # positives of each user
        self._met: defaultdict[int, set[int]] = defaultdict(set)  # interactions of each user
        self._n_positive = 0
        self.warm_up = warm_up
        self.users: dict[str, int] = {}
        self.catalogue = Catalogue()
        self.occasions = Occasions()
        self.shown = {name: Shown() for name in (OURS, *(ranker.name for ranker in rankers))}
        self.rejected: Counter[str] = Counter()
        self.repeats_not_scored = 0
        self.unknown_targets = 0
        self.n_candidate_targets = 0

    def play(self, events: Sequence[Event], progress: Callable[[int], None] | None) -> None:
        """Predict and learn all events in their order."""
        fold = self._models.fold
        fold.begin()
        for n, event in enumerate(events):
            if n % BATCH == 0:
                fold.keep()
                fold.begin()
                self._state.committed()
                if progress is not None:
                    progress(n)
            while self._versions and self._versions[0][0] <= event.time:
                item = self._versions.popleft()[1]
                self._items[item.item_id] = item
            self._meet(event)
        fold.keep()

    def _meet(self, event: Event) -> None:
        state = self._state
        verdict = self._cleaner.judge(event, state.profile(event.user), state.header, event.time)
        if isinstance(verdict, Rejected):
            self.rejected[verdict.code.value] += 1
            return
        if event.kind is EventKind.UNKNOWN:
            return
        if verdict:
            self._cleaner.advance(event, state.header, event.time)
        profile, memory = state.profile(event.user), state.memory(event.user)
        self._cleaner.remember(event, profile)
        moment = profiles.update(event, profile, on_time=verdict)
        state.touch(event.user, profile, memory)
        positive = event.name in self._protocol.positive and _is_positive(event)
        self._n_positive += positive
        user = self.users.setdefault(event.user, len(self.users))
        # Item by item, as the learner takes them: fresh ones first.
        history = moment.history
        learned = [*((item, True) for item in moment.fresh), *((item, False) for item in moment.repeated)]
        others = [] if learned else [str(item.product_id) for item in event.items if positive]
        for item_id, fresh in learned:
            if positive:
                self._score(user, item_id, moment, history, memory)
            step = ([item_id], []) if fresh else ([], [item_id])
            self._learner.learn(replace(moment, fresh=step[0], repeated=step[1], history=history), memory)
            if moment.teaches:
                self._teach(user, item_id, event.time)
            if fresh:
                history = [item_id, *history][: profiles.MAX_RING]
        for item_id in others:  # a positive that models do not learn
            self._score(user, item_id, moment, history, memory)

    def _score(
        self, user: int, item_id: str, moment: Moment, history: list[str], memory: ModelMemory
    ) -> None:
        taken = self._taken[user]
        repeat = item_id in taken
        if not repeat:
            taken[item_id] = len(taken)
        if self._n_positive <= self.warm_up:
            return
        if repeat and not self._protocol.repeats:
            self.repeats_not_scored += 1
            return
        excluded = () if self._protocol.repeats else [item for item in taken if item != item_id]
        at, known = moment.event.time, self.catalogue.numbers
        blend = self._models.blend
        slate = blend.propose(
            history,
            at,
            moment.gap_s,
            excluded,
            memory.factors,
            asker=asker_of(moment, blend),
            newcomers=self._models.newcomers_for(history, at, self._items),
        )
        rank = slate.rank_of(item_id)
        counts = self.catalogue.counts
        target = known.get(item_id)
        numbers = [known[item] for item in slate.item_ids(N_SHOWN) if item in known]
        self.shown[OURS].add(rank, numbers, counts)
        self.n_candidate_targets += rank is not None
        self.unknown_targets += target is None
        gone = (
            np.array([known[item] for item in excluded if item in known], np.int64) if excluded else NO_ITEMS
        )
        for ranker in self._rankers:
            scores = ranker.scores(user, at)
            if scores is None:
                scores = self._fallback.scores(user, at)
            self.shown[ranker.name].add(
                None if target is None else place(target, scores, counts, gone),
                top(N_SHOWN, scores, counts, gone),
                counts,
            )
        self.occasions.users.append(user)
        self.occasions.times.append(at)
        self.occasions.slices.append(
            (
                moment.gap_s is None or moment.gap_s >= SESSION_START_S,
                not history,
                target is None or counts[target] < NEW_ITEM_EVENTS,
            )
        )

    def _teach(self, user: int, item_id: str, at: float) -> None:
        item = self.catalogue.count(item_id)
        met = self._met[user]
        repeat = item in met
        met.add(item)
        self._fallback.learn(user, item, at, repeat=repeat)
        for ranker in self._rankers:
            ranker.learn(user, item, at, repeat=repeat)
