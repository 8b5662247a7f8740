"""How the tests build a dataset and read what it holds, bytes as they are."""

import json
import struct

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


def built(builder_class, manual_dir, data_dir, config=None, **options):
    """The dataset's folder, once built."""
    builder = builder_class(config=config, data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    )
    return builder.data_path


def records(folder, split):
    """A split's features, flat, read at random by the offsets: name to a list of values."""
    found = []
    for path in sorted(folder.glob(f"*-{split}.tfrecord-?????-of-?????")):
        data = path.read_bytes()
        for start, length in np.load(f"{path}.offsets.npy"):
            assert struct.unpack("<Q", data[start - 12 : start - 4]) == (length,)
            example = tf.train.Example.FromString(data[start : start + length])
            # The same files give the same bytes.
            assert example.SerializeToString(deterministic=True) == data[start : start + length]
            found.append(
                {
                    name: list(getattr(feature, feature.WhichOneof("kind")).value)
                    for name, feature in example.features.feature.items()
                }
            )
    return found


def summary(folder, split="train"):
    return json.loads((folder / "build_summary.json").read_text())["splits"][split]


def decoded(folder, split="train"):
    """A split as TFDS itself reads and decodes it."""
    return list(tfds.as_numpy(tfds.builder_from_directory(folder).as_dataset(split=split)))
