"""The training stream: batches of triplets, a pure function of (seed, step).

Example i of a step is `Examples(step · global_batch + i)`, made from the seed alone. So nothing
needs a checkpoint, a run that resumes at step t sees what it would have seen, and the global batch
is the same for one host and for many. tf.data only runs the examples side by side and ahead of
time; OpenCV, which does the work, lets go of Python's lock.
"""

import atexit
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.triplets.examples import open_examples
from qmra_jax.errors import InputError

tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is the model's


def make_stream(
    data: Any,
    *,
    seed: int,
    global_batch: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> tf.data.Dataset:
    """This host's part of the batches from `start_step` on, without end.

    Args:
      data: the `data` part of a config.
      seed: of the run.
      global_batch: examples a step over all hosts; each takes its contiguous part.
      start_step: the first batch is this step's.
      host_index: of this host.
      host_count: how many there are.

    Returns:
      A dataset of dictionaries, with b = global_batch / host_count:
        images: uint8 `[b, 3, s, s, 3]`, RGB; two memory frames, then the query.
        masks: uint8 `[b, 3, s, s]` in {0, 1}.
        boxes: int32 `[b, 3, 4]`, the masks' tight boxes: x, y, width, height.
        id: string `[b]`, where each is from.

    Raises:
      InputError: as `open_examples`, or if a number is out of range or the hosts cannot share the
        batch evenly; before TensorFlow starts anything.
    """
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
    examples = open_examples(data, seed=seed, global_batch=global_batch)
    local = global_batch // host_count
    size = examples.augmentation.crop

    def example(n: np.ndarray):
        step, i = divmod(start_step * local + int(n), local)
        name, triplet = examples(step * global_batch + host_index * local + i)
        return *triplet, name

    def tensors(n: tf.Tensor) -> dict[str, tf.Tensor]:
        kinds = (tf.uint8, tf.uint8, tf.int32, tf.string)
        images, masks, boxes, name = tf.numpy_function(example, [n], kinds)
        return {
            "images": tf.ensure_shape(images, (3, size, size, 3)),
            "masks": tf.ensure_shape(masks, (3, size, size)),
            "boxes": tf.ensure_shape(boxes, (3, 4)),
            "id": tf.ensure_shape(name, ()),
        }

    workers = data.workers or os.cpu_count() or 1
    return (
        tf.data.Dataset.range(tf.int64.max)
        .map(tensors, num_parallel_calls=workers, deterministic=True)
        .batch(local, drop_remainder=True)
        .prefetch(data.prefetch)
    )


def batches(dataset: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """The stream's batches as NumPy arrays; a bad file ends it with the `InputError` it raised.

    Raises:
      InputError: of the example that failed; tf.data wraps it in an error of its own.
    """
    running = [dataset.as_numpy_iterator()]
    # A worker that is inside an example while the interpreter ends would abort the process.
    atexit.register(running.clear)
    try:
        while True:
            try:
                batch = next(running[0])
            except tf.errors.OpError as error:
                if found := re.search(r"InputError: (.*)", error.message):
                    raise InputError(found[1]) from None
                raise
            yield batch
    finally:
        running.clear()
