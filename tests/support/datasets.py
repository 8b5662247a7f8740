"""Miniature datasets: raw folders, and the TFRecords that builders make of them."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZE = (40, 32)  # width, height


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def square(value=255, left=10, size=SIZE):
    mask = np.zeros(size[::-1], np.uint8)
    mask[8:20, left : left + 12] = value
    return mask


def add_pair(folder, stem, mask=None, suffix=".jpg", size=SIZE):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    save(folder / "images" / f"{stem}{suffix}", image)
    save(folder / "masks" / f"{stem}.png", square(size=size) if mask is None else mask)


def add_video(root, name, labels, split="train", year="2016"):
    """A video whose k-th frame has brightness 10 k, with these label maps; no list if no split."""
    for k, label in enumerate(labels):
        frame = np.full((*label.shape, 3), 10 * k % 256, np.uint8)
        save(root / "JPEGImages/480p" / name / f"{k:05d}.png", frame)
        save(root / "Annotations/480p" / name / f"{k:05d}.png", label)
    if split:
        path = root / "ImageSets" / year / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lines:
            lines.write(f"{name}\n")


IMAGE = tfds.features.Image(shape=(None, None, 3))
MASK = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
PAIR = {"name": tfds.features.Text(), "image": IMAGE, "mask": MASK}
VIDEO = {
    "name": tfds.features.Text(),
    "frames": tfds.features.Sequence(IMAGE),
    "masks": tfds.features.Sequence(MASK),
    "annotated": tfds.features.Sequence(np.int32),
}


def write_records(folder: Path, features, records, split="train", shards=1, offsets=False):
    """Records as a TFDS dataset in `folder`, in their order; `offsets` says where they start.

    Returns:
      The shards' paths.
    """
    import tensorflow as tf
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    folder.mkdir(parents=True, exist_ok=True)
    features = tfds.features.FeaturesDict(features)
    serializer = ExampleSerializer(features.get_serialized_info())
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="mini", split=split, filetype_suffix="tfrecord"
    )
    parts = [records[len(records) * s // shards : len(records) * (s + 1) // shards]
             for s in range(shards)]  # fmt: skip
    paths = []
    for index, part in enumerate(parts):
        path = Path(template.sharded_filepath(shard_index=index, num_shards=shards))
        spans, start = [], 12
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in part:
                data = serializer.serialize_example(features.encode_example(record))
                writer.write(data)
                spans.append((start, len(data)))
                start += len(data) + 16
        if offsets:
            np.save(f"{path}.offsets.npy", np.array(spans, np.int64))
        paths.append(path)
    lengths = [len(part) for part in parts]
    info = tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=0, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[info], check_data=False
    )
    return paths


def index_png(path, binary=True):
    """A mask file's labels as the grey index PNG of a record; 0/255 becomes 0/1."""
    import io

    labels = np.asarray(Image.open(path))
    labels = (labels == 255).astype(np.uint8) if binary else labels
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def pair_record(image, mask, **options):
    """The record of an image file and its mask file."""
    return {
        "name": image.name,
        "image": image.read_bytes(),
        "mask": index_png(mask, **options),
    }


def video_record(root, name, annotated=None, **options):
    """The record of a video of `add_video`; `annotated` are the frames that keep their masks."""
    frames, masks = (
        sorted((root / kind / "480p" / name).iterdir()) for kind in ("JPEGImages", "Annotations")
    )
    annotated = list(range(len(frames))) if annotated is None else annotated
    return {
        "name": name,
        "frames": [path.read_bytes() for path in frames],
        "masks": [index_png(masks[k], **options) for k in annotated],
        "annotated": annotated,
    }
