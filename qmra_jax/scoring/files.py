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
    texts = {"scores.json": json.dumps(compact, indent=2, allow_nan=False) + "\n"}
    if "frames" in scores:
        texts["frames.json"] = json.dumps(scores["frames"], allow_nan=False) + "\n"
    else:
        path.with_name("frames.json").unlink(missing_ok=True)
    if "protocol" in scores and scores["protocol"] != "youtube_vos":
        overall, by_object = csv_names(scores["split"])
        texts |= {overall: _global_csv(scores), by_object: _per_sequence_csv(scores)}
    for name in reversed(texts):  # scores.json last
        with written_whole(path.with_name(name)) as part:
            part.write_text(texts[name])
    return path


def csv_names(split: str | None) -> tuple[str, str]:
    """The toolkit's two file names for a split such as "2017/val"; None is all sequences."""
    name = (split or "all").rpartition("/")[2]
    return f"global_results-{name}.csv", f"per-sequence_results-{name}.csv"


def _global_csv(scores: dict) -> str:
    columns = [f"{measure}-{name.capitalize()}" for measure, name in MEASURED]
    values = [scores["J&F"], *(scores[measure][name] for measure, name in MEASURED)]
    return f"J&F-Mean,{','.join(columns)}\n{','.join(f'{value:.3f}' for value in values)}\n"


def _per_sequence_csv(scores: dict) -> str:
    lines = ["Sequence,J-Mean,F-Mean"]
    for name, sequence in scores["sequences"].items():
        for label, s in sequence.get("objects", {"1": sequence}).items():
            lines.append(f"{name}_{label},{s['J']['mean']:.3f},{s['F']['mean']:.3f}")
    return "\n".join(lines) + "\n"
