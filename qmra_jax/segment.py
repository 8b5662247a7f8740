"""From a video and boxes to files: the masks, an overlay video, and a table of boxes.

DIR/masks/00000.png ...   palette PNGs, one a frame: 0 background, 1..n the boxes in their order
DIR/overlay.mp4           the video with the masks over it
DIR/boxes.csv             frame,object,x,y,width,height; the last four empty where not seen
"""

import csv
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qmra_jax.boxes import check_box
from qmra_jax.errors import InputError
from qmra_jax.files import make_folder, written_whole
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.video import VideoReader, write_video
from qmra_jax.visualize import overlay


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the files of one segmented video lie."""

    folder: Path

    @property
    def masks(self) -> Path:
        """The folder of label maps."""
        return self.folder / "masks"

    @property
    def overlay(self) -> Path:
        """The video with the masks over it."""
        return self.folder / "overlay.mp4"

    @property
    def boxes(self) -> Path:
        """The table of boxes."""
        return self.folder / "boxes.csv"

    def mask(self, index: int) -> Path:
        """The label map of frame `index`."""
        return self.masks / f"{index:05d}.png"


@dataclasses.dataclass(frozen=True)
class Segmented:
    """What came of it.

    Attributes:
      output: where the files lie.
      frames: how many frames were segmented.
      boxes: frame -> int32 `[n, 4]`, x, y, width, height of each object, zeros where not seen.
      wall_seconds: from the first frame's decoding to the last mask's writing, compiling included.
      network_fps: frames a second of the network's own time, over the frames that compiled nothing
        (`FrameResult.seconds`); None where each did.
    """

    output: Output
    frames: int
    boxes: Mapping[int, np.ndarray]
    wall_seconds: float
    network_fps: float | None

    def speed(self) -> str:
        """A line about frames and seconds, and what they count."""
        line = f"{self.frames} frames in {self.wall_seconds:.0f} s, compiling and disk included"
        if self.network_fps is not None:
            line += f"; the network alone {self.network_fps:.2f} frames/s"
        return line


def parse_box(text: str) -> tuple[int, int, int, int]:
    """The four whole numbers of "x,y,width,height".

    Raises:
      InputError: if it is anything else.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"box {text!r}: expected four whole numbers of pixels x,y,width,height, such as"
            " 120,80,64,48"
        ) from None
    return x, y, width, height


def check_request(
    video: VideoReader,
    boxes: list[tuple[int, int, int, int]],
    frame: int,
    output: Output,
    *,
    overwrite: bool,
) -> np.ndarray:
    """The boxes as an array, once it is known that they can be propagated and the result be kept.

    Args:
      video: to be segmented.
      boxes: x, y, width, height in pixels of `video`, at least one.
      frame: the number of the frame in which they were drawn.
      output: where the result is to go; nothing is written yet.
      overwrite: whether an earlier result there may be replaced.

    Returns:
      int32 `[n, 4]`.

    Raises:
      InputError: if a box does not lie in the frame, there is no such frame, the output folder
        holds anything while `overwrite` is not set, or what is read would be replaced.
    """
    if not boxes:
        raise InputError("no box: give at least one, x,y,width,height")
    checked = np.stack([check_box(box, *video.size) for box in boxes])
    video.frame(frame)
    folder = output.folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file: expected a folder, or a new name")
    source = video.path.resolve()
    if source in (output.masks.resolve(), output.overlay.resolve()):
        raise InputError(
            f"{video.path} would be replaced by its own result in {folder}: give another output"
        )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(
            f"output {folder} is not empty: give another folder, or --overwrite to replace an"
            " earlier result there"
        )
    return checked


def segment_video(
    video: VideoReader,
    boxes: np.ndarray,
    propagator,
    output: Output,
    *,
    frame: int = 0,
    progress: bool = True,
) -> Segmented:
    """Propagates the boxes of one frame through the video, both ways, and writes the files.

    An earlier result in the same folder is removed first (its masks, overlay and table alone).

    Args:
      video: to be segmented.
      boxes: int32 `[n, 4]` of `check_request`.
      propagator: a `qmra_jax.Propagator`.
      output: where to write.
      frame: the number of the frame in which the boxes were drawn.
      progress: shows bars on standard error.
    """
    from qmra_jax.propagate import propagate_video  # JAX, which the rest of this file does without

    make_folder(output.masks)
    _remove_result(output)
    found: dict[int, np.ndarray] = {}
    seconds: list[float] = []
    began = time.perf_counter()
    results = propagate_video(propagator, video, boxes, start=frame)
    with tqdm(total=video.count, desc="segment", unit="frame", disable=not progress) as bar:
        for index, result in results:
            write_labels(output.mask(index), result.labels)
            found[index] = np.asarray(result.boxes)
            if result.seconds is not None:
                seconds.append(result.seconds)
            bar.update()
    wall_seconds = time.perf_counter() - began
    _write_boxes(output.boxes, found)
    shown = tqdm(
        _overlaid(video, output, found),
        total=len(found),
        desc="overlay",
        unit="frame",
        disable=not progress,
    )
    write_video(output.overlay, shown, video.fps)
    network_fps = len(seconds) / sum(seconds) if seconds else None
    return Segmented(output, len(found), found, wall_seconds, network_fps)


def _remove_result(output: Output) -> None:
    """So that the masks of a longer video do not outlive it."""
    for path in output.masks.glob("*.png"):
        if path.stem.isdecimal():
            path.unlink()
    output.overlay.unlink(missing_ok=True)
    output.boxes.unlink(missing_ok=True)


def _overlaid(
    video: VideoReader, output: Output, boxes: Mapping[int, np.ndarray]
) -> Iterator[np.ndarray]:
    # Read again from the disk: with a box in the middle, masks come out of order.
    for index, image in enumerate(video):
        yield overlay(image, read_labels(output.mask(index)), boxes[index])


def _write_boxes(path: Path, boxes: Mapping[int, np.ndarray]) -> None:
    with written_whole(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame", "object", "x", "y", "width", "height"])
        for index in sorted(boxes):
            for label, box in enumerate(boxes[index].tolist(), start=1):
                seen = box[2] > 0 and box[3] > 0
                table.writerow([index, label, *(box if seen else [""] * 4)])
