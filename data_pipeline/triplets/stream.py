"""The training stream: batches of triplets, a pure function of (seed, step).

Example i of a step is `Examples(step · global_batch + i)`. So nothing needs a checkpoint, a run
that resumes at step t sees what it would have seen, and the global batch is the same for any number
of hosts. `data.loader` chooses what makes the examples in parallel: threads of tf.data, or
processes, which need no TensorFlow. The batches are bit-identical.
"""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from data_pipeline.triplets.examples import HostExamples, open_examples
from qmra_jax.errors import InputError

LOADERS = ("tf.data", "processes")


class Stream(Iterator[dict[str, np.ndarray]], Protocol):
    """Batches, until it is closed."""

    def close(self) -> None:
        """Ends the threads or processes; batches that were returned stay valid."""


def open_stream(
    data: Any,
    *,
    seed: int,
    global_batch: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Stream:
    """This host's part of the batches from `start_step` on, without end.

    Args:
      data: the `data` part of a config.
      seed: of the run.
      global_batch: examples per step over all hosts; each host takes its contiguous part.
      start_step: step of the first batch.
      host_index: of this host.
      host_count: number of hosts.

    Returns:
      An iterator, to be closed after use, over dictionaries with b = global_batch / host_count:
        images: uint8 `[b, 3, s, s, 3]`, RGB; two memory frames, then the query.
        masks: uint8 `[b, 3, s, s]` in {0, 1}.
        boxes: int32 `[b, 3, 4]`, the masks' tight boxes: x, y, width, height.
        id: bytes `[b]`, the examples' names.
      A bad file ends it with an `InputError` at the batch that needs it.

    Raises:
      InputError: as `open_examples`, or if there is no such loader, a number is out of range or the
        hosts cannot share the batch evenly.
    """
    if data.loader not in LOADERS:
        raise InputError(f"data.loader={data.loader!r}: expected one of {', '.join(LOADERS)}")
    if host_count < 1 or not 0 <= host_index < host_count:
        raise InputError(f"host {host_index} of {host_count}: expected hosts counted from 0")
    if global_batch < 1 or global_batch % host_count:
        raise InputError(
            f"a batch of {global_batch} on {host_count} hosts: expected a multiple of the hosts"
        )
    if start_step < 0:
        raise InputError(f"start step {start_step}: expected 0 or more")
    for name in ("workers", "prefetch"):
        if getattr(data, name) < 0:  # TensorFlow's -1, its own choice, holds batches without end
            raise InputError(f"data.{name}={getattr(data, name)}: expected 0 or more")
    examples = HostExamples(
        open_examples(data, seed=seed, global_batch=global_batch),
        start_step,
        host_index,
        global_batch // host_count,
    )
    workers = data.workers or os.cpu_count() or 1
    if data.loader == "processes":
        from data_pipeline.triplets.process_stream import ProcessStream

        return ProcessStream(examples, workers=workers, prefetch=data.prefetch)
    # Imports TensorFlow, which takes seconds and need not be installed for the other loader.
    from data_pipeline.triplets import tf_stream

    return tf_stream.batches(
        tf_stream.make_dataset(examples, workers=workers, prefetch=data.prefetch)
    )
