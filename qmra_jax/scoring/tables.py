"""Scores as Markdown tables: one method, or several side by side."""

from collections.abc import Mapping, Sequence

MEASURED = [(measure, name) for measure in "JF" for name in ("mean", "recall", "decay")]


def format_table(scores: dict) -> str:
    """Formats scores: a row per sequence, the mean, YouTube-VOS's groups, and notes.

    Args:
      scores: of `score_folder`; entries `fps`, overall or in sequences, become a column.
    """
    groups = [(name, scores[name]) for name in ("seen", "unseen") if scores.get(name)]
    rows = [
        *scores["sequences"].items(),
        (_mean_name(scores), scores),
        *((f"{name}: {group['objects']} objects", group) for name, group in groups),
    ]
    with_fps = any("fps" in row for _, row in rows)
    heads = [f"{measure} {name}" for measure, name in MEASURED]
    table = [["sequence", *heads, "J&F"] + ["fps"] * with_fps]
    for label, row in rows:
        values = [*row["J"].values(), *row["F"].values(), row["J&F"]]
        fps = [f"{row['fps']:.1f}" if "fps" in row else ""] * with_fps
        table.append([label, *(f"{value:.3f}" for value in values), *fps])
    overall = [f"overall: {scores['overall']:.3f}"] if "overall" in scores else []
    return "\n".join([align(table), *overall, *notes(scores)])


def format_comparison(by_method: Mapping[str, dict]) -> str:
    """Formats several methods: each one's overall scores, then the J&F of each sequence.

    The best of each column, or of each row in the second table, is marked by `*`.

    Args:
      by_method: of `score_folder` each, over the same sequences.
    """
    first = next(iter(by_method.values()))
    overall = [["method", *columns(first)]]
    marked = mark_best([headline(scores) for scores in by_method.values()], columns(first))
    for method, row in zip(by_method, marked, strict=True):
        overall.append([method, *(f"{text}{'*' * best}" for text, best in row)])
    sequences = [["J&F of sequence", *by_method]]
    for name in first["sequences"]:
        values = [[scores["sequences"][name]["J&F"]] for scores in by_method.values()]
        marked = mark_best(values, ["J&F"])
        sequences.append([name, *(f"{text}{'*' * best}" for ((text, best),) in marked)])
    return "\n".join([align(overall), "", align(sequences), *notes(first)])


def columns(scores: dict) -> list[str]:
    """Column heads for `headline`."""
    if scores["protocol"] == "youtube_vos":
        return ["overall", "J seen", "F seen", "J unseen", "F unseen", "J&F"]
    return ["J&F", *(f"{measure} {name}" for measure, name in MEASURED)]


def headline(scores: dict) -> list[float | None]:
    """The overall scores of a method; None for a YouTube-VOS group without objects."""
    if scores["protocol"] == "youtube_vos":
        groups = [scores["seen"], scores["unseen"]]
        parts = [group[measure]["mean"] if group else None for group in groups for measure in "JF"]
        return [scores["overall"], *parts, scores["J&F"]]
    return [scores["J&F"], *(scores[measure][name] for measure, name in MEASURED)]


def mark_best(
    rows: Sequence[Sequence[float | None]], heads: Sequence[str]
) -> list[list[tuple[str, bool]]]:
    """The text of each number, and whether it is the best of its column at three decimals.

    Args:
      rows: the numbers of each method; None where there is none, shown as a dash.
      heads: of the columns; the lowest decay is best.
    """
    marked = []
    for head, column in zip(heads, zip(*rows, strict=True), strict=True):
        rounded = [None if value is None else round(value, 3) for value in column]
        numbers = [value for value in rounded if value is not None]
        best = (min if head.endswith("decay") else max)(numbers, default=None)
        marked.append(
            [
                ("–", False) if value is None else (f"{value:.3f}", value == best)
                for value in rounded
            ]
        )
    return [list(row) for row in zip(*marked, strict=True)]


def notes(scores: dict) -> list[str]:
    """Remarks on what was left out: lines of text."""
    lines = []
    if scores["protocol"] == "youtube_vos":
        missing = [name for name in ("seen", "unseen") if not scores[name]]
        remark = f" (there are no objects of {missing[0]} categories)" if missing else ""
        lines.append(f"overall is the mean of J and F of seen and unseen{remark}")
        if scores["unscored"]:
            lines.append(
                f"not scored, as no true mask follows their first: {', '.join(scores['unscored'])}"
            )
    if subset := scores.get("subset"):
        lines.append(
            f"a subset: {subset['scored']} of the {subset['of']} sequences of {scores['split']}"
        )
    return lines


def align(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table, heads first; all columns but the first are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])} |"
        for cells in [table[0], rule, *table[1:]]
    )


def _mean_name(scores: dict) -> str:
    # Not the mean of the rows above, which are sequences.
    return "mean" if scores["protocol"] == "davis2016" else f"mean of {scores['objects']} objects"
