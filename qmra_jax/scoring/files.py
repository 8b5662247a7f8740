"""Writes scores: scores.json, frames.json and the CSV files of the official DAVIS toolkit."""

import json
from pathlib import Path

from qmra_jax.files import written_whole
from qmra_jax.scoring.tables import MEASURED


def write_scores(scores: dict, folder: Path) -> Path:
    """Writes scores into a folder, atomically replacing older ones.

    `scores.json` holds all but `frames`, which go to `frames.json`; without `frames`, an older
    frames.json is removed. Scores of DAVIS are also written as the official toolkit's two files,
    `global_results-val.csv` and `per-sequence_results-val.csv`, with its columns, order and three
    decimals; objects are named like "bear_1".

    Args:
      scores: of `score_folder`, and other entries such as `fps`.
      folder: created if needed.

    Returns:
      The path of scores.json.

    Raises:
      InputError: if the folder cannot be made or written to.
    """
    path = Path(folder) / "scores.json"
    compact = {name: value for name, value in scores.items() if name != "frames"}
    text = json.dumps(compact, indent=2, allow_nan=False) + "\n"
    frames = path.with_name("frames.json")
    if "frames" in scores:
        _write(frames, json.dumps(scores["frames"], allow_nan=False) + "\n")
    else:
        frames.unlink(missing_ok=True)
    if "protocol" in scores and scores["protocol"] != "youtube_vos":
        overall, by_object = csv_names(scores["split"])
        _write(path.with_name(overall), _global_csv(scores))
        _write(path.with_name(by_object), _per_sequence_csv(scores))
    _write(path, text)
    return path


def csv_names(split: str | None) -> tuple[str, str]:
    """The toolkit's two file names for a split such as "2017/val"; None is all sequences."""
    name = (split or "all").rpartition("/")[2]
    return f"global_results-{name}.csv", f"per-sequence_results-{name}.csv"


def _global_csv(scores: dict) -> str:
    columns = [f"{measure}-{name.capitalize()}" for measure, name in MEASURED]
    values = [scores[measure][name] for measure, name in MEASURED]
    return f"J&F-Mean,{','.join(columns)}\n{_row([scores['J&F'], *values])}\n"


def _per_sequence_csv(scores: dict) -> str:
    lines = ["Sequence,J-Mean,F-Mean"]
    for name, sequence in scores["sequences"].items():
        for label, measures in sequence.get("objects", {"1": sequence}).items():
            lines.append(f"{name}_{label},{_row([measures['J']['mean'], measures['F']['mean']])}")
    return "\n".join(lines) + "\n"


def _row(values: list[float]) -> str:
    return ",".join(f"{value:.3f}" for value in values)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as part:
        part.write_text(text)
