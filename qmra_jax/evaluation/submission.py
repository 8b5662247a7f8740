"""The zip that a benchmark's server takes."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_pipeline.datasets.davis import shortened
from qmra_jax.errors import InputError
from qmra_jax.files import written_whole


def write_zip(
    path: Path, annotations: Path, wanted: Mapping[str, Iterable[str]], *, prefix: str = ""
) -> Path:
    """Packs masks for a server, all that are asked for or none.

    Args:
      path: of the zip; one that is there is replaced.
      annotations: the folder that holds `VIDEO/00000.png`.
      wanted: the file names of each video; others in its folder are left out.
      prefix: before each name in the zip: "Annotations/" for YouTube-VOS's server; DAVIS's wants
        the videos' folders at the top.

    Returns:
      The path.

    Raises:
      InputError: if a mask that is wanted is not there.
    """
    names = [f"{video}/{name}" for video, files in wanted.items() for name in sorted(files)]
    if missing := [name for name in names if not (annotations / name).is_file()]:
        raise InputError(
            f"{path} would lack {len(missing)} of the {len(names)} masks that the server asks for:"
            f" {shortened(missing)}; not in {annotations}"
        )
    # PNGs are deflated already.
    with written_whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(annotations / name, prefix + name)
    return path
