"""Writers of boxes and masks as text, line by line in bounded memory.

boxes.csv   frame,object,x,y,width,height. Frames count from 0. The boxes are those of stage 1's
            B_q, not the masks' tight boxes; empty if an object is not visible.
mot.txt     MOTChallenge: frame,id,left,top,width,height,confidence,-1,-1,-1. Frames and pixels
            count from 1, as MOTChallenge's instructions say. Boxes are tight around the masks.
coco.json   a COCO dataset for `pycocotools.coco.COCO`: one image per frame (its id is the frame
            number, from 0), one annotation per visible object, with compressed RLE, the mask's area
            and tight box (from 0), `track_id` (the object's id) and `score`. Its `annotations` are
            also a COCO results list for `COCO.loadRes`.
"""

import contextlib
import csv
import json

import numpy as np
from pycocotools import mask as rle

from qmra_jax.boxes import mask_to_box
from qmra_jax.segmentation.result_writer import FrameObjects, TextWriter
from qmra_jax.video.reader import Frame


class Boxes(TextWriter):
    """boxes.csv: the network's boxes."""

    name = "boxes.csv"

    def open(self, stack: contextlib.ExitStack) -> None:
        super().open(stack)
        self._rows = csv.writer(self.file)
        self._rows.writerow(["frame", "object", "x", "y", "width", "height"])

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        for id, box in zip(objects.ids, objects.boxes.tolist(), strict=True):
            visible = box[2] > 0 and box[3] > 0
            self._rows.writerow([frame.number, id, *(box if visible else [""] * 4)])


class Mot(TextWriter):
    """mot.txt: MOTChallenge's text format."""

    name, scored = "mot.txt", True

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        for id, score in zip(objects.ids, objects.scores, strict=True):
            x, y, width, height = mask_to_box(objects.labels == id).tolist()
            if width:
                box = f"{x + 1},{y + 1},{width},{height}"
                self.file.write(f"{frame.number + 1},{id},{box},{score:.4f},-1,-1,-1\n")


class Coco(TextWriter):
    """coco.json: a COCO dataset."""

    name, scored = "coco.json", True

    def open(self, stack: contextlib.ExitStack) -> None:
        super().open(stack)
        stack.push(self._write_images)
        self._frames = self._annotations = 0
        self.file.write('{"info": {"description": "masks of qmra-jax"},\n"annotations": [')

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        self._frames = frame.number + 1
        for id, score in zip(objects.ids, objects.scores, strict=True):
            mask = np.asfortranarray(objects.labels == id, np.uint8)
            if not mask.any():
                continue
            code = rle.encode(mask)
            self._annotations += 1
            annotation = {
                "id": self._annotations,
                "image_id": frame.number,
                "category_id": 1,
                "track_id": id,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
                "area": int(rle.area(code)),
                "bbox": mask_to_box(mask).tolist(),
                "iscrowd": 0,
                "score": round(score, 4),
            }
            self._separate(self._annotations > 1, annotation)

    def _write_images(self, kind, *_) -> None:
        if kind is not None:
            return
        height, width = self.video.size
        self.file.write('],\n"images": [')
        for number in range(self._frames):
            name = self.video.name(number)
            image = {"id": number, "file_name": name, "frame_id": number}
            self._separate(number > 0, image | {"width": width, "height": height})
        self.file.write('],\n"categories": [{"id": 1, "name": "object"}]}\n')

    def _separate(self, follows: bool, item: dict) -> None:
        self.file.write((",\n" if follows else "\n") + json.dumps(item))
