"""Makes records in parallel and writes their shards, with threads or with Apache Beam."""

import concurrent.futures
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tqdm import tqdm

from data_pipeline.builders.items import Item, SkippedByDesign
from data_pipeline.builders.shards import Made, ShardToWrite
from data_pipeline.builders.summary import Outcome
from qmra_jax.errors import InputError


def make_one(features: Any, item: Item) -> Made:
    """Makes an item and serializes its record; a bad or skipped item has an outcome instead."""
    try:
        record = item.make()
    except InputError as error:
        return Made(None, Outcome(faults=(str(error),)))
    except SkippedByDesign as reason:
        return Made(None, Outcome(skipped={str(reason): 1}))
    serializer = ExampleSerializer(features.get_serialized_info())
    example = serializer.get_tf_example(features.encode_example(record.features))
    # Deterministic, since the fields of a protobuf map have no order: same files, same bytes.
    return Made(example.SerializeToString(deterministic=True), Outcome(1, record.counts))


def write_with_threads(
    shards: Sequence[ShardToWrite], make: Callable[[Item], Made], *, done: int, unit: str
) -> None:
    """Writes the shards one after the other; their items are made in parallel and kept in order.

    Threads suffice, as decoding and encoding release Python's lock. Few items are held at a time.

    Args:
      shards: to write.
      make: makes an item.
      done: number of items made by an earlier build, for the progress bar.
      unit: what an item is, in the plural.
    """
    workers = _workers()
    items = [item for shard in shards for item in shard.items]
    on_terminal = sys.stderr.isatty()
    progress = tqdm(
        total=done + len(items),
        initial=done,
        unit=f" {unit}",
        mininterval=0.2 if on_terminal else 30.0,
    )
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        with progress:
            made = _in_order(pool, make, items, progress, ahead=2 * workers)
            for shard in shards:
                shard.write(itertools.islice(made, len(shard.items)))
    finally:
        pool.shutdown(cancel_futures=True)


def write_with_beam(
    shards: Sequence[ShardToWrite], make: Callable[[Item], Made], *, runner: Any, options: Any
) -> None:
    """Writes the shards in parallel on Beam's workers, which need access to all folders."""
    import apache_beam as beam

    def write(shard: ShardToWrite) -> None:
        shard.write(map(make, shard.items))

    with beam.Pipeline(runner=runner, options=options) as pipeline:
        created = pipeline | beam.Create(shards) | beam.Reshuffle()
        _ = created | "Write" >> beam.Map(write)


def _workers() -> int:
    workers = os.environ.get("QMRA_BUILD_WORKERS") or str(os.cpu_count() or 1)
    if not workers.isdecimal() or int(workers) < 1:
        raise InputError(f"workers {workers!r}: expected a number of threads, 1 or more")
    return int(workers)


def _in_order(
    pool: concurrent.futures.Executor,
    make: Callable[[Item], Made],
    items: Sequence[Item],
    progress: tqdm,
    ahead: int,
) -> Iterator[Made]:
    waiting = deque(pool.submit(make, item) for item in items[:ahead])
    faults = 0
    for item in [*items[ahead:], *[None] * len(waiting)]:
        made = waiting.popleft().result()
        if item is not None:
            waiting.append(pool.submit(make, item))
        if made.outcome.faults:
            faults += 1
            progress.set_postfix(faults=faults, refresh=False)
        progress.update()
        yield made
