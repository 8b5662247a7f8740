"""Scores as a self-contained HTML page: tables, J over time, worst and best frames."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean

from qmra_jax.files import written_whole
from qmra_jax.plots import colour, svg_data
from qmra_jax.scoring.report_frames import frames_folder, over_time, picture
from qmra_jax.scoring.tables import columns, headline, mark_best, notes
from qmra_jax.scoring.tasks import ScoringPlan, Task

PICTURED = 30  # sequences with pictures: keeps a page of hundreds small

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
  max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.4rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd;
  font-variant-numeric: tabular-nums; }
th { border-bottom-color: #888; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } figure { margin: 0.6rem 0; } figcaption { color: #555; }
img { max-width: 100%; height: auto; } img.plot { width: 100%; } a { color: inherit; }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 0.9em; }
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of one method."""

    plan: ScoringPlan
    scores: dict  # of `score_plan`, with `frames`


def write_report(path: Path, methods: Mapping[str, Result], images: Path | None = None) -> Path:
    """Writes the page atomically and returns its path.

    Args:
      path: of the file; its folder is created if needed.
      methods: by name, at least one, over the same sequences.
      images: see `report_frames.frames_folder`.

    Raises:
      InputError: if the path cannot be written to, or a frame is missing under `images`.
    """
    first = next(iter(methods.values()))
    what = f"{first.scores['protocol']}, {first.scores['split']}"
    names = list(first.scores["sequences"])
    pictured = set(sorted(names, key=lambda name: _mean_score(methods, name))[:PICTURED])
    remarks = list(notes(first.scores))
    if len(names) > PICTURED:
        remarks.append(f"Pictures are shown of the {PICTURED} sequences with the lowest J&F.")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Scores: {escape(what)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Scores: {escape(what)}</h1>",
        "<p>J is region similarity (intersection over union), F contour accuracy; recall is the"
        " share of frames above 0.5, decay the loss from the first quarter of the frames to the"
        " last. The best of each column is bold.</p>",
        *(f"<p>{escape(remark)}</p>" for remark in remarks),
        _overall_table(methods),
        _sequence_table(methods),
    ]
    tasks = {task.name: task for task in first.plan.tasks}
    for name in names:
        parts.append(f'<h2 id="{escape(name)}">{escape(name)}</h2>')
        parts.append(_plot(methods, name))
        if name in pictured:
            parts += _pictures(methods, tasks[name], images)
    with written_whole(path) as part:
        part.write_text("\n".join([*parts, "</body></html>"]) + "\n", encoding="utf-8")
    return path


def over_objects(frames: dict) -> list[float | None]:
    """J by frame, averaged over the objects scored in it, for a sequence of `scores["frames"]`."""
    by_frame = zip(*(scores["J"] for scores in frames["objects"].values()), strict=True)
    scored = [[value for value in values if value is not None] for values in by_frame]
    return [fmean(values) if values else None for values in scored]


def _mean_score(methods: Mapping[str, Result], name: str) -> float:
    return fmean(result.scores["sequences"][name]["J&F"] for result in methods.values())


def _overall_table(methods: Mapping[str, Result]) -> str:
    heads = columns(next(iter(methods.values())).scores)
    marked = mark_best([headline(result.scores) for result in methods.values()], heads)
    rows = [
        [escape(method), *_cells(row, methods)] for method, row in zip(methods, marked, strict=True)
    ]
    return _table(["method", *map(escape, heads)], rows)


def _sequence_table(methods: Mapping[str, Result]) -> str:
    """J&F, J and F of each sequence, the best method's in bold."""
    rows = []
    for name in next(iter(methods.values())).scores["sequences"]:
        scores = [result.scores["sequences"][name] for result in methods.values()]
        values = [[s["J&F"], s["J"]["mean"], s["F"]["mean"]] for s in scores]
        marked = mark_best(values, ["J&F", "J", "F"])
        cells = [cell for row in marked for cell in _cells(row, methods)]
        rows.append([f'<a href="#{escape(name)}">{escape(name)}</a>', *cells])
    suffixes = [f" {escape(method)}" if len(methods) > 1 else "" for method in methods]
    heads = [f"{measure}{suffix}" for suffix in suffixes for measure in ("J&amp;F", "J", "F")]
    return _table(["sequence", *heads], rows)


def _cells(row: Sequence[tuple[str, bool]], methods: Mapping[str, Result]) -> list[str]:
    """The texts of `mark_best`, the best in bold if there are several methods."""
    return [f"<b>{text}</b>" if best and len(methods) > 1 else text for text, best in row]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _plot(methods: Mapping[str, Result], name: str) -> str:
    frames = {method: result.scores["frames"][name] for method, result in methods.items()}
    lines = {method: over_objects(scores) for method, scores in frames.items()}
    first = next(iter(frames.values()))
    several, objects = len(first["objects"]) > 1, {}
    if len(methods) == 1 and several:
        objects = {f"object {label}": scores["J"] for label, scores in first["objects"].items()}
    keys = "".join(
        f'<span class="key" style="background:{colour(number)}"></span>{escape(method)}'
        f" {result.scores['sequences'][name]['J']['mean']:.3f}"
        for number, (method, result) in enumerate(methods.items())
    )
    what = ", mean of objects" + "; thin: each object" * bool(objects) if several else ""
    data = svg_data(over_time(lines, first["names"], thin=objects))
    image = f'<img class="plot" alt="J by frame of {escape(name)}" src="{data}">'
    return f"<figure>{image}<figcaption>J by frame{what}:{keys}</figcaption></figure>"


def _pictures(methods: Mapping[str, Result], task: Task, images: Path | None) -> list[str]:
    """The frames with the lowest and the highest J of each method."""
    names = next(iter(methods.values())).scores["frames"][task.name]["names"]
    values = {m: over_objects(r.scores["frames"][task.name]) for m, r in methods.items()}
    shown: dict[int, list[str]] = {}
    for word, choose in (("worst", min), ("best", max)):
        for method, j in values.items():
            scored = {k: value for k, value in enumerate(j) if value is not None}
            k = choose(scored, key=scored.__getitem__)
            shown.setdefault(k, []).append(word + (f" of {method}" if len(methods) > 1 else ""))
    folder = frames_folder(task, images)
    masks = {
        method: next(t.predicted for t in result.plan.tasks if t.name == task.name)
        for method, result in methods.items()
    }
    merged = next(iter(methods.values())).plan.protocol == "davis2016"
    figures = []
    for k, why in shown.items():
        captions = {method: f"{method} {values[method][k]:.3f}" for method in methods}
        data = picture(task, names[k], folder, masks, captions, merged=merged)
        # Names again, as captions in the picture are plain ASCII.
        shows = f"the truth, then {', '.join(methods)}"
        text = escape(f"Frame {names[k]}, {' and '.join(why)}: {shows}")
        figures.append(
            f'<figure><img alt="{text}" src="{data}"><figcaption>{text}</figcaption></figure>'
        )
    return figures
