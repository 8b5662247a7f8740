"""`qmra score`: scores masks of one or several methods."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.cli.options import Overwrite
from qmra_jax.errors import InputError, require_packages

Protocol = StrEnum("Protocol", ["davis2017", "davis2016", "youtube_vos"])


def score(
    truth: Annotated[
        Path,
        typer.Option(metavar="ROOT", help="Dataset in the layout of DAVIS or YouTube-VOS."),
    ],
    predictions: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]DIR",
            help="Holds SEQUENCE/00000.png or Annotations/SEQUENCE/00000.png. Repeatable;"
            " NAME is what tables call the method, by default the folder's name.",
        ),
    ],
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="DAVIS, each object (2017) or all merged into one (2016); or YouTube-VOS, where"
            " objects start at their first listed frame."
        ),
    ] = Protocol.davis2017,
    split: Annotated[
        str | None,
        typer.Option(
            help="A list under ImageSets, by default val; of YouTube-VOS a folder such as train, by"
            " default the root itself or its valid. `all`: every sequence."
        ),
    ] = None,
    sequences: Annotated[
        str | None,
        typer.Option(metavar="A,B|FILE", help="Subset of the split; a file has one per line."),
    ] = None,
    unseen: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|FILE|none",
            help="YouTube-VOS's categories absent from training; by default all but those of the"
            " official training set.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write scores.json and, for DAVIS, the official toolkit's two CSV files; for"
            " several methods in a folder each.",
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Also write J and F of every frame: frames.json.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write a page with tables, J over time, worst and best frames.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="ROOT",
            help="Dataset with the report's JPEGImages, if not beside the annotations.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score folders of masks as the benchmarks' own tools do: J, F and their mean.

    Several methods are shown side by side, with the best marked.

    \b
    Examples:
      qmra score --truth DAVIS --predictions runs/val
      qmra score --truth DAVIS --predictions runs/val --protocol davis2016 --output runs/val
      qmra score --truth DAVIS --predictions ours=runs/val --predictions stm=STM/val \\
        --report compare.html
      qmra score --truth YouTubeVOS --split train --sequences held_out.txt \\
        --protocol youtube_vos --unseen penguin,zebra --predictions runs/ytvos
    """
    from qmra_jax.scoring.score import format_table, plan_folder, score_plan, write_scores
    from qmra_jax.scoring.tables import format_comparison

    if images is not None and report is None:
        raise InputError("--images is for the pictures of --report: give both")
    if frames and output is None:
        raise InputError("--frames writes frames.json into --output: give both")
    if unseen is not None and protocol != Protocol.youtube_vos:
        raise InputError(f"--unseen is for --protocol youtube_vos, not {protocol.value}")
    if report is not None:
        require_packages("qmra score --report", "matplotlib", extra="plots")
    folders = named_folders(predictions)
    split = _split(split, protocol, truth)
    outputs = _claim(output, list(folders), protocol, split, report, overwrite)
    plans = {
        name: plan_folder(
            truth,
            folder,
            protocol=protocol.value,
            split=split,
            sequences=None if sequences is None else listed(sequences),
            unseen=[] if unseen == "none" else None if unseen is None else listed(unseen),
        )
        for name, folder in folders.items()
    }
    if report is not None:
        from qmra_jax.scoring.report_frames import frames_folder  # loads matplotlib

        for task in next(iter(plans.values())).tasks:
            frames_folder(task, images)  # refuses missing frames before scoring
    scores = {
        name: score_plan(plan, frames=frames or report is not None) for name, plan in plans.items()
    }
    several = len(scores) > 1
    typer.echo(format_comparison(scores) if several else format_table(*scores.values()))
    for name, folder in outputs.items():
        kept = {k: v for k, v in scores[name].items() if frames or k != "frames"}
        typer.echo(str(write_scores(kept, folder)))
    if report is not None:
        from qmra_jax.scoring.report import Result, write_report

        results = {name: Result(plans[name], scores[name]) for name in plans}
        typer.echo(str(write_report(report, results, images)))


def named_folders(texts: list[str]) -> dict[str, Path]:
    """Parses `NAME=DIR` or `DIR` into folders by the name of the method.

    Raises:
      InputError: if a name is missing, contains a slash or occurs twice.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        path = Path(folder)
        if not equals or Path(text).is_dir():
            path = Path(text)
            full = path.resolve()
            name = full.parent.name if full.name == "Annotations" else full.name
        if not name or "/" in name or (equals and not folder):
            raise InputError(f"--predictions {text}: expected DIR, or NAME=DIR with a plain name")
        if name in folders:
            raise InputError(
                f"--predictions {folders[name]} and {path} are both called {name}: name them, as in"
                " --predictions ours=runs/a --predictions theirs=runs/b"
            )
        folders[name] = path
    return folders


def listed(text: str) -> list[str]:
    """The lines of a file, or the parts of a text between commas.

    Raises:
      InputError: if there are none, or the file cannot be read.
    """
    path = Path(text)
    if path.is_file():
        try:
            words = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}): expected one word per line"
            ) from None
    else:
        words = text.split(",")
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise InputError(f"{text!r} names nothing: expected A,B or a file with one word per line")
    return words


def _split(split: str | None, protocol: Protocol, truth: Path) -> str | None:
    if split == "all":
        return None
    if split is None and protocol == Protocol.youtube_vos:
        return None if (truth / "meta.json").is_file() else "valid"
    return split or "val"


def _claim(
    output: Path | None,
    names: list[str],
    protocol: Protocol,
    split: str | None,
    report: Path | None,
    overwrite: bool,
) -> dict[str, Path]:
    """Creates each method's output folder.

    Raises:
      InputError: if a result exists already, or a folder cannot be written to.
    """
    from qmra_jax.files import make_folder
    from qmra_jax.scoring.files import csv_names

    if report is not None and report.is_dir():
        raise InputError(f"--report {report} is a folder: expected a file, {report}/report.html")
    outputs: dict[str, Path] = {}
    if output is not None:
        outputs = {name: output / name if len(names) > 1 else output for name in names}
    written = ["scores.json", "frames.json"]
    if protocol != Protocol.youtube_vos:
        written += csv_names(split)
    files = [folder / name for folder in outputs.values() for name in written]
    if report is not None:
        files.append(report)
    existing = [str(path) for path in files if path.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} exists: write elsewhere, or --overwrite to replace earlier results"
        )
    for folder in {path.parent for path in files}:
        make_folder(folder)
    return outputs
