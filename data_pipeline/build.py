"""Builds a dataset: TFRecords from an official download, or from your own folder.

    python -m data_pipeline.build --list
    python -m data_pipeline.build duts --manual_dir=DOWNLOADS --data_dir=DATA [--skip_bad]

Bad files stop a build with a list of them. An interrupted build resumes when the same command runs
again. The result is an ordinary TFDS dataset.
"""

import argparse
import ast
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from qmra_jax.errors import InputError, exit_on_input_error, require_packages
from qmra_jax.files import make_folder

_FOLDER = Path(__file__).parent / "builders"
_ENDING = "_dataset_builder"


def builders() -> Mapping[str, str]:
    """The datasets that can be built: name to a one-line description."""
    summaries = {}
    for path in sorted(_FOLDER.glob(f"*/*{_ENDING}.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        summaries[path.parent.name] = docstring.partition("\n")[0]
    return summaries


def build(
    dataset: str,
    manual_dir: Path | None = None,
    *,
    data_dir: Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Builds a dataset; the environment variables QMRA_SKIP_BAD and QMRA_BUILD_WORKERS apply.

    Args:
      dataset: NAME, or NAME/CONFIG where there are several configs.
      manual_dir: folder of the unpacked downloads; None where nothing is downloaded.
      data_dir: folder of datasets; None: TFDS's, $TFDS_DATA_DIR or ~/tensorflow_datasets.
      overwrite: replace an existing dataset once the new one is complete; else it is kept.
      options: of `tfds.download.DownloadConfig`, such as num_shards.

    Raises:
      InputError: if there is no such dataset or folder, or files are bad.
    """
    name, _, config = dataset.partition("/")
    if name not in builders():
        raise InputError(f"dataset {dataset}: no builder of this name; there are\n{_table()}")
    if manual_dir is not None and not manual_dir.is_dir():
        raise InputError(f"manual_dir {manual_dir}: no such folder; expected the unpacked download")
    import tensorflow_datasets as tfds

    builder_class = importlib.import_module(
        f"data_pipeline.builders.{name}.{name}{_ENDING}"
    ).Builder
    if manual_dir is None and builder_class.READS_FILES:
        instructions = " ".join(builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise InputError(f"dataset {dataset}: expected --manual_dir=DIR. {instructions}")
    configs = [known.name for known in builder_class.BUILDER_CONFIGS]
    if (config or len(configs) > 1) and config not in configs:
        expected = " or ".join(f"{name}/{known}" for known in configs) or name
        raise InputError(f"dataset {dataset}: expected {expected}")
    builder = builder_class(config=config or None, data_dir=data_dir)
    target = builder.data_path
    old = target.with_name(f".{target.name}.replaced")
    if old.exists() and not target.exists():
        old.rename(target)  # by a build that was killed between the two renames below
    replaces = target.exists()
    if replaces and not overwrite:
        print(f"{target} exists and is kept (--overwrite replaces it)")
        return
    if replaces:
        beside = epath.Path(builder.data_dir_root) / f".{dataset.replace('/', '.')}.new"
        builder = builder_class(config=config or None, data_dir=beside)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    )
    if replaces:
        if old.exists():
            old.rmtree()
        target.rename(old)
        builder.data_path.rename(target)
        old.rmtree()
        beside.rmtree()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.build",
        description="Builds a dataset of TFRecords from official downloads or a folder.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", nargs="?", metavar="NAME[/CONFIG]")
    add("--list", action="store_true", help="list the datasets")
    add("--manual_dir", type=Path, help="folder of the unpacked downloads")
    add("--data_dir", help="folder of datasets (default: TFDS's own)")
    add("--skip_bad", action="store_true", help="leave out bad files and report them")
    add("--workers", type=int, help="number of threads (default: one per core)")
    add("--overwrite", action="store_true", help="replace an existing dataset")
    add("--num_shards", type=int, help="shards of each split (default: by size)")
    add("--max_examples_per_split", type=int, help="build the first examples only, as a trial")
    add(
        "--beam_pipeline_options",
        help="build with Apache Beam and these options: runner=DirectRunner,direct_num_workers=8",
    )
    args = parser.parse_args(arguments)
    with exit_on_input_error():
        if args.list:
            print(_table())
            return
        if args.dataset is None:
            raise InputError(f"expected NAME --manual_dir=DIR; there are\n{_table()}")
        if args.skip_bad:
            os.environ["QMRA_SKIP_BAD"] = "1"
        if args.workers is not None:
            os.environ["QMRA_BUILD_WORKERS"] = str(args.workers)
        options: dict[str, Any] = {
            key: getattr(args, key) for key in ("num_shards", "max_examples_per_split")
        }
        for key, value in options.items():
            if value is not None and value < 1:
                raise InputError(f"--{key}={value}: expected 1 or more")
        if args.beam_pipeline_options:
            require_packages("--beam_pipeline_options", "apache_beam", extra="beam")
            from apache_beam.options.pipeline_options import PipelineOptions

            flags = [f"--{option}" for option in args.beam_pipeline_options.split(",")]
            options["beam_options"] = PipelineOptions(flags=flags)
        data_dir = args.data_dir
        if data_dir and "://" not in data_dir:
            data_dir = Path(data_dir).expanduser()
            make_folder(data_dir)
        manual_dir = args.manual_dir and args.manual_dir.expanduser()
        try:
            build(args.dataset, manual_dir, data_dir=data_dir, overwrite=args.overwrite, **options)
        except KeyboardInterrupt:
            print("interrupted: the same command resumes", file=sys.stderr)
            raise SystemExit(130) from None


def _table() -> str:
    return "\n".join(f"  {name:<16}{line}" for name, line in builders().items())


if __name__ == "__main__":
    main()
