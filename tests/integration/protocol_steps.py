"""What Nudge asks of a broker, one step at a time, each written down as one line.

The steps run in order through aiokafka against any broker. A line holds only what the protocol promises: no
addresses, no ids, no times. `conversation` returns the whole transcript.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import KafkaError

from tests.integration import protocol_groups as groups
from tests.integration import protocol_records as records
from tests.integration import protocol_transactions as transactions
from tests.integration.protocol_client import Client, failed

Step = Callable[[Client], Awaitable[object]]

STEP_TIMEOUT_S = 20.0  # the slowest step takes 3 s on Apache Kafka


STEPS: Sequence[Step] = (
    records.topics_are_created,
    records.topics_are_described,
    records.headers_survive,
    records.null_is_not_empty,
    records.compacted_topics_want_keys,
    records.append_time_is_the_brokers,
    records.batches_take_offsets_in_order,
    records.prepared_batches_are_one,
    records.times_find_offsets,
    records.codecs_round_trip,
    records.large_records_are_refused,
    records.positions_out_of_range_are_errors,
    transactions.transactions_commit,
    transactions.transactions_abort,
    transactions.open_transactions_hold_readers_back,
    transactions.offsets_ride_in_transactions,
    transactions.live_groups_take_offsets_by_transaction,
    transactions.zombies_are_fenced,
    transactions.zombie_offsets_are_fenced,
    transactions.forgotten_transactions_end,
    groups.commits_keep_metadata,
    groups.groups_share_partitions,
    records.empty_partitions_have_two_equal_ends,
    transactions.transactions_span_partitions,
    transactions.transactions_hold_back_their_own_partitions_only,
    transactions.positions_pass_markers,
    records.seeks_forget_what_was_fetched,
    transactions.refused_records_do_not_fail_a_commit,
    transactions.pending_offsets_do_not_show,
    transactions.fencing_forgets_pending_offsets,
    transactions.timed_out_ids_go_on_with_a_new_producer,
    records.deleted_records_move_the_start,
    groups.generations_count_rebalances,
    groups.stale_generations_cannot_commit,
    groups.static_members_come_back_to_their_place,
    groups.silent_members_are_given_up,
    records.fetched_ends_are_told,
    transactions.unsent_transactions_end_in_silence,
    records.topics_grow_and_go,
)


async def conversation(bootstrap: str, prefix: str) -> dict[str, str]:
    """Run every step and return its line by the step's name; a step that fails says so and stops no other."""
    client = Client(bootstrap, prefix)
    lines: dict[str, str] = {}
    for step in STEPS:
        name = getattr(step, "__name__", repr(step))
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                lines[name] = str(await step(client))
        except (KafkaError, TimeoutError) as error:
            lines[name] = f"failed: {failed(error)}"
    return lines
