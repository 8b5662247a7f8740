"""Builds datasets, and reads their records byte by byte."""

import importlib
import json
import tempfile

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


def builder_class(name):
    return importlib.import_module(f"data_pipeline.builders.{name}.{name}_dataset_builder").Builder


def built(builder_class, manual_dir, data_dir, config=None, **options):
    """The folder of the dataset, once built."""
    builder = builder_class(config=config, data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    )
    return builder.data_path


def build_as(folder, name, manual_dir, **options):
    """Builds a dataset in any folder, such as duts/1.0.0."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as data_dir:
        built(builder_class(name), manual_dir, data_dir, **options).rename(folder)
    return folder


def records(folder, split="train"):
    """A split's features, read by the offsets: name to a list of values."""
    found = []
    for path in sorted(folder.glob(f"*-{split}.tfrecord-?????-of-?????")):
        data = path.read_bytes()
        for start, length in np.load(f"{path}.offsets.npy"):
            assert int.from_bytes(data[start - 12 : start - 4], "little") == length
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
