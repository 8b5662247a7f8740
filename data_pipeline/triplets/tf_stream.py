"""The training stream with tf.data, which runs the examples in threads of this process.

OpenCV, which does the work, releases Python's lock.
"""

import atexit
import re
from collections.abc import Generator

import numpy as np
import tensorflow as tf

from data_pipeline.triplets.examples import HostExamples
from qmra_jax.errors import InputError

tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is the model's


def make_dataset(examples: HostExamples, *, workers: int, prefetch: int) -> tf.data.Dataset:
    """Endless batches of this host's examples, as `stream.open_stream` describes them.

    Args:
      examples: of this host.
      workers: number of examples made in parallel.
      prefetch: number of batches made ahead.
    """
    size = examples.crop

    def example(n: np.ndarray):
        name, triplet = examples(int(n))
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

    return (
        tf.data.Dataset.range(tf.int64.max)
        .map(tensors, num_parallel_calls=workers, deterministic=True)
        .batch(examples.batch, drop_remainder=True)
        .prefetch(prefetch)
    )


def batches(dataset: tf.data.Dataset) -> Generator[dict[str, np.ndarray], None, None]:
    """The dataset's batches as NumPy arrays.

    Raises:
      InputError: of the first example that failed; tf.data wraps it in an error of its own.
    """
    running = [dataset.as_numpy_iterator()]
    # A worker inside an example while the interpreter exits would abort the process.
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
