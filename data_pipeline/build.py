"""Builds a dataset: official downloads, or a folder of one's own, become TFRecords.

    python -m data_pipeline.build --list
    python -m data_pipeline.build duts --manual_dir=DOWNLOADS --data_dir=DATA [--skip_bad]

What an interrupted build has finished is kept, and the same command goes on from there. Bad files
stop it with a list of them. TFDS reads the result like any dataset of its own.
"""

import argparse
import ast
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.files import make_folder

_FOLDER = Path(__file__).parent / "builders"
_ENDING = "_dataset_builder"


def builders() -> Mapping[str, str]:
    """The datasets there are builders of: name to a line that tells what it is."""
    found = {}
    for path in sorted(_FOLDER.glob(f"*/*{_ENDING}.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[path.parent.name] = docstring.partition("\n")[0]
    return found


def build(
    dataset: str,
    manual_dir: Path,
    *,
    data_dir: Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Builds a dataset; the environment variables QMRA_SKIP_BAD and QMRA_BUILD_WORKERS apply.

    Args:
      dataset: NAME, or NAME/CONFIG where there are several.
      manual_dir: where the downloads were unpacked.
      data_dir: where datasets are kept; None is TFDS's: $TFDS_DATA_DIR or ~/tensorflow_datasets.
      overwrite: replaces an existing dataset, once the new one is there; else it is kept.
      options: of `tfds.download.DownloadConfig`, such as num_shards.

    Raises:
      InputError: if there is no such dataset or folder, or files are bad.
    """
    name, _, config = dataset.partition("/")
    if name not in builders():
        raise InputError(f"dataset {dataset}: no builder of this name; there are\n{_table()}")
    if not manual_dir.is_dir():
        raise InputError(f"manual_dir {manual_dir}: no such folder; expected the unpacked download")
    import tensorflow_datasets as tfds

    builder_class = importlib.import_module(
        f"data_pipeline.builders.{name}.{name}{_ENDING}"
    ).Builder
    configs = [known.name for known in builder_class.BUILDER_CONFIGS]
    if (config or len(configs) > 1) and config not in configs:
        expected = " or ".join(f"{name}/{known}" for known in configs) or name
        raise InputError(f"dataset {dataset}: expected {expected}")
    builder = builder_class(config=config or None, data_dir=data_dir)
    with contextlib.ExitStack() as stack:
        if builder.data_path.exists():
            if not overwrite:
                print(f"{builder.data_path} exists and is kept (--overwrite replaces it)")
                return
            stack.enter_context(_set_aside(builder.data_path))
            builder = builder_class(config=config or None, data_dir=data_dir)  # knows nothing of it
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.build",
        description="Builds a dataset of TFRecords from official downloads or a folder.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", nargs="?", metavar="NAME[/CONFIG]")
    parser.add_argument("--list", action="store_true", help="list the datasets")
    parser.add_argument("--manual_dir", type=Path, help="where the downloads were unpacked")
    parser.add_argument("--data_dir", help="where datasets are kept (default: TFDS's own folder)")
    parser.add_argument("--skip_bad", action="store_true", help="leave out bad files and tell")
    parser.add_argument("--workers", type=int, help="threads (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--num_shards", type=int, help="of each split (default: by size)")
    parser.add_argument("--max_examples_per_split", type=int, help="the first ones: a trial")
    parser.add_argument(
        "--beam_pipeline_options",
        help="build by Apache Beam, with these: runner=DirectRunner,direct_num_workers=8",
    )
    given = parser.parse_args(arguments)
    with exit_on_input_error():
        if given.list:
            print(_table())
            return
        if given.dataset is None or given.manual_dir is None:
            raise InputError(f"expected NAME --manual_dir=DIR; there are\n{_table()}")
        if given.skip_bad:
            os.environ["QMRA_SKIP_BAD"] = "1"
        if given.workers is not None:
            os.environ["QMRA_BUILD_WORKERS"] = str(given.workers)
        options: dict[str, Any] = {
            key: getattr(given, key) for key in ("num_shards", "max_examples_per_split")
        }
        for key, value in options.items():
            if value is not None and value < 1:
                raise InputError(f"--{key}={value}: expected 1 or more")
        if given.beam_pipeline_options:
            options["beam_options"] = _beam_options(given.beam_pipeline_options)
        data_dir = given.data_dir
        if data_dir and "://" not in data_dir:
            data_dir = Path(data_dir).expanduser()
            make_folder(data_dir)
        try:
            build(
                given.dataset,
                given.manual_dir.expanduser(),
                data_dir=data_dir,
                overwrite=given.overwrite,
                **options,
            )
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None


def _table() -> str:
    return "\n".join(f"  {name:<16}{line}" for name, line in builders().items())


@contextlib.contextmanager
def _set_aside(folder: Any) -> Iterator[None]:
    """Moves a dataset away for the block; it comes back where the block fails, else it is gone."""
    aside = folder.with_name(f".{folder.name}.replaced")
    folder.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(folder)
        raise
    aside.rmtree()


def _beam_options(text: str) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError(
            "--beam_pipeline_options need Apache Beam: pip install 'qmra-jax[beam]'"
        ) from None
    return PipelineOptions(flags=[f"--{option}" for option in text.split(",")])


if __name__ == "__main__":
    main()
