"""Videos in the DAVIS layout: their splits, frames and annotations.

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg     ROOT/ImageSets/2016/val.txt   one name per line
    ROOT/Annotations/480p/SEQUENCE/00000.png    ROOT/ImageSets/480p/val.txt   paths of one frame per
                                                                              line

The `480p` level of the images may be missing. DAVIS 2016 was published with lists in
`ImageSets/480p`, DAVIS 2017 with lists by year; both are read. Your own videos need no `ImageSets`,
or a plain `ImageSets/val.txt`.
"""

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from qmra_jax.errors import InputError
from qmra_jax.files import by_number

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

Masks = Literal["every", "first", "some"]
"""Which frames must have a mask: every one, at least the first (test-dev), or at least one."""


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One video and its masks.

    Attributes:
      name: of its folder.
      frames: the images, in temporal order; empty where frames were not requested.
      annotations: the masks, in temporal order.
      annotated: index into `frames` of each mask; empty where `frames` is.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    annotated: tuple[int, ...] = ()


def read_split(root: Path, year: str, split: str) -> list[str]:
    """The names of a split's sequences, in the order of its list.

    Args:
      root: of the dataset.
      year: folder of the list in `ImageSets`; "2016" includes `480p`, "" is `ImageSets` itself.
      split: such as "train" or "val".

    Raises:
      InputError: if there is no such root or list, or the list is empty.
    """
    root = _existing_root(root)
    lists = _lists(root, year, split)
    path = next((path for path in lists if path.is_file()), None)
    if path is None:
        found = ", ".join(available_splits(root)) or "no ImageSets lists"
        raise InputError(f"split {year}/{split} of {root}: expected {lists[0]}; found {found}")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    # A line is a name, or the paths of a frame and its mask: "/JPEGImages/480p/bear/00000.jpg ...".
    names = [Path(line.split()[0]).parent.name if "/" in line else line for line in lines]
    if not names:
        raise InputError(f"split list {path} is empty: expected one sequence name per line")
    return list(dict.fromkeys(names))


def has_split(root: Path, year: str, split: str) -> bool:
    """Whether the list that `read_split` reads exists."""
    return any(path.is_file() for path in _lists(Path(root), year, split))


def _lists(root: Path, year: str, split: str) -> list[Path]:
    folders = [year, "480p"] if year == "2016" else [year]
    return [root / "ImageSets" / folder / f"{split}.txt" for folder in folders]


def available_splits(root: Path) -> list[str]:
    """The lists in `ImageSets`, each as "2016/val", or "val" for a list in no sub-folder."""
    folder = Path(root) / "ImageSets"
    lists = sorted([*folder.glob("*.txt"), *folder.glob("*/*.txt")])
    return [path.relative_to(folder).with_suffix("").as_posix() for path in lists]


def find_sequences(
    root: Path,
    *,
    year: str = "2016",
    split: str | None = "train",
    masks: Masks = "every",
    need_frames: bool = True,
    names: Collection[str] | None = None,
    faults: list[str] | None = None,
) -> list[Sequence]:
    """The sequences of a split, after a check that frames and masks are complete.

    Args:
      root: of the dataset.
      year: folder of the split's list, see `read_split`.
      split: such as "train" or "val"; None: every sequence, without a list.
      masks: which frames must have one. A mask always needs a frame.
      need_frames: False: find masks only, as scoring needs, and leave `frames` empty.
      names: these sequences of the split only, in the split's order.
      faults: if given, receives one line per incomplete sequence, which is then left out.

    Raises:
      InputError: if the root, the split's list, a folder of the layout or one of `names` is
        missing, or there are no sequences; and, without `faults`, if a sequence is incomplete.
    """
    root = _existing_root(root)
    annotations = _level(root / "Annotations")
    images = _level(root / "JPEGImages") if need_frames else None
    if split is not None:
        listed, source = read_split(root, year, split), f"{year}/{split}"
    else:
        listed = sequence_names(root, need_frames=need_frames)
        source = str(annotations)
    if names is not None:
        if absent := sorted(set(names) - set(listed)):
            raise InputError(
                f"sequence {', '.join(absent)}: not in {source}, which has"
                f" {', '.join(listed) or 'none'}"
            )
        listed = [name for name in listed if name in set(names)]
    if not listed:
        raise InputError(f"{annotations}: expected a folder of PNG masks per video; found none")
    sequences, incomplete = [], []
    for name in listed:
        try:
            sequences.append(_sequence(name, annotations, images, masks))
        except InputError as error:
            incomplete.append(str(error))
    if faults is not None:
        faults += incomplete
    elif incomplete:
        others = len(incomplete) - 1
        more = f" (and {others} more sequences with faults)" if others else ""
        raise InputError(incomplete[0] + more)
    return sequences


def sequence_names(root: Path, *, need_frames: bool = True) -> list[str]:
    """The names of all sequences, sorted; arguments and errors as `find_sequences`."""
    kinds = ("Annotations", "JPEGImages") if need_frames else ("Annotations",)
    folders = [_level(_existing_root(root) / kind) for kind in kinds]
    return sorted({name for folder in folders for name in folders_in(folder)})


def folders_in(folder: Path) -> list[str]:
    """The sorted names of the folders in a folder, without hidden ones."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _existing_root(root: Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"dataset {root}: no such folder (expected one in the DAVIS layout)")
    return root


def _level(folder: Path) -> Path:
    """The folder that contains the sequences: its level `480p` if there is one."""
    if not folder.is_dir():
        found = ", ".join(folders_in(folder.parent)) or "no folders"
        raise InputError(
            f"{folder.parent} has no folder {folder.name}: found {found}, expected"
            f" {folder.name}/480p/SEQUENCE or {folder.name}/SEQUENCE"
        )
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _sequence(name: str, masks: Path, images: Path | None, needed: Masks) -> Sequence:
    annotations = files_in(masks, name, {".png"}, "PNG masks")
    if images is None:
        return Sequence(name, (), annotations)
    frames = files_in(images, name, FRAME_SUFFIXES, "JPEG or PNG frames")
    index = {path.stem: k for k, path in enumerate(frames)}
    masked = {path.stem for path in annotations}
    required = {"every": frames, "first": frames[:1], "some": ()}[needed]
    unpaired = (masked - index.keys()) | ({path.stem for path in required} - masked)
    if unpaired or len(index) < len(frames):
        expected = {"every": "one mask per frame", "first": "a mask of the first frame"}
        raise InputError(
            f"sequence {name} has {len(frames)} frames in {images / name} and {len(annotations)}"
            f" masks in {masks / name}: expected {expected.get(needed, 'a frame for each mask')},"
            " of the same name; without a partner:"
            f" {shortened(unpaired) or 'none, but two frames share a name'}"
        )
    return Sequence(name, frames, annotations, tuple(index[path.stem] for path in annotations))


def files_in(
    parent: Path, name: str, suffixes: Collection[str], kind: str, *, allow_none: bool = False
) -> tuple[Path, ...]:
    """The files of one sequence, in temporal order, without hidden ones.

    Args:
      parent: contains the sequence's folder.
      name: of the sequence.
      suffixes: of the files, in lower case.
      kind: of the files, for messages.
      allow_none: return an empty tuple where there is no folder or file.

    Raises:
      InputError: if there is no such folder or file.
    """
    folder = parent / name
    if not folder.is_dir():
        if allow_none:
            return ()
        found = shortened(folders_in(parent)) or "no folders"
        raise InputError(f"sequence {name}: no folder {folder}; found {found}")
    files = visible_files(folder, suffixes)
    if not files and not allow_none:
        found = shortened(p.name for p in folder.iterdir()) or "an empty folder"
        raise InputError(f"sequence {name}: expected {kind} in {folder}; found {found}")
    return tuple(sorted(files, key=by_number))


def visible_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """A folder's files with these suffixes (lower case), without hidden ones such as macOS's."""
    return [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]


def shortened(names: Iterable[str], most: int = 5) -> str:
    """The first of the sorted names and the number of the others, for messages."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
