"""Boxes and masks as text that other programs read, written line by line in bounded memory.

boxes.csv   frame,object,x,y,width,height. Frames count from 0. The boxes are the network's own,
            stage 1's B_q, and need not be the masks' tight ones; empty where an object is not seen.
mot.txt     MOTChallenge: frame,id,left,top,width,height,confidence,-1,-1,-1. Frames and pixels
            count from 1, as MOTChallenge's instructions say. Boxes are tight around the masks.
coco.json   a COCO dataset that `pycocotools.coco.COCO` opens: an image a frame (its id is the
            frame's number, from 0), an annotation for each object seen in it, with compressed RLE,
            the mask's area and tight box (from 0), `track_id` (the object's id) and `score`. Its
            `annotations` are also a COCO results list, for `COCO.loadRes`.
"""

import csv
import json

import numpy as np
from pycocotools import mask as rle

from qmra_jax.boxes import mask_to_box
from qmra_jax.segmentation.result_writer import FrameObjects, TextWriter
from qmra_jax.video.reader import Frame


class Boxes(TextWriter):
    """The network's own boxes."""

    name = "boxes.csv"

    def open(self) -> None:
        super().open()
        self._rows = csv.writer(self.file)
        self._rows.writerow(["frame", "object", "x", "y", "width", "height"])

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        for id, box in zip(objects.ids, objects.boxes.tolist(), strict=True):
            seen = box[2] > 0 and box[3] > 0
            self._rows.writerow([frame.number, id, *(box if seen else [""] * 4)])


class Mot(TextWriter):
    """MOTChallenge's text."""

    name, scored = "mot.txt", True

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        for id, score in zip(objects.ids, objects.scores, strict=True):
            x, y, width, height = mask_to_box(objects.labels == id).tolist()
            if width:
                box = f"{x + 1},{y + 1},{width},{height}"
                self.file.write(f"{frame.number + 1},{id},{box},{score:.4f},-1,-1,-1\n")


class Coco(TextWriter):
    """COCO's JSON."""

    name, scored = "coco.json", True

    def open(self) -> None:
        super().open()
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

    def close(self) -> None:
        height, width = self.video.size
        self.file.write('],\n"images": [')
        for number in range(self._frames):
            name = self.video.name(number)
            image = {"id": number, "file_name": name, "width": width, "height": height}
            self._separate(number > 0, image)
        self.file.write('],\n"categories": [{"id": 1, "name": "object"}]}\n')
        super().close()

    def _separate(self, follows: bool, item: dict) -> None:
        self.file.write((",\n" if follows else "\n") + json.dumps(item))
