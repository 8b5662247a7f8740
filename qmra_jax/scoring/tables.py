"""Scores as text: the table of one method, and several methods side by side."""

from collections.abc import Mapping, Sequence

MEASURED = [(measure, name) for measure in "JF" for name in ("mean", "recall", "decay")]


def format_table(scores: dict) -> str:
    """The scores as an aligned Markdown table: a row for each sequence, then the mean.

    YouTube-VOS's end with a row each for seen and unseen categories, and the overall score. A note
    follows where sequences of the split, or objects, were left out.

    Args:
      scores: of `score_folder`; a column of frames a second is added where `fps` was, either for
        the whole or within sequences.
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
    """Several methods' scores: what each has over all, then each sequence's J&F.

    The best of each column (of each row in the second table) bears a `*`, every one of equals.

    Args:
      by_method: of `score_folder` each, over the same sequences.
    """
    first = next(iter(by_method.values()))
    overall = [["method", *columns(first)]]
    marked = mark_best([headline(scores) for scores in by_method.values()], columns(first))
    overall += [
        [method, *("–" if text is None else f"{text}{'*' * best}" for text, best in row)]
        for method, row in zip(by_method, marked, strict=True)
    ]
    sequences = [["J&F of sequence", *by_method]]
    for name in first["sequences"]:
        values = [[scores["sequences"][name]["J&F"]] for scores in by_method.values()]
        cells = [row[0] for row in mark_best(values, ["J&F"])]
        sequences.append([name, *(f"{text}{'*' * best}" for text, best in cells)])
    return "\n".join([align(overall), "", align(sequences), *notes(first)])


def columns(scores: dict) -> list[str]:
    """The heads of `headline`'s numbers."""
    if scores["protocol"] == "youtube_vos":
        return ["overall", "J seen", "F seen", "J unseen", "F unseen", "J&F"]
    return ["J&F", *(f"{measure} {name}" for measure, name in MEASURED)]


def headline(scores: dict) -> list[float | None]:
    """What sums a method up: None for a group of YouTube-VOS's that has no objects."""
    if scores["protocol"] == "youtube_vos":
        groups = [scores["seen"], scores["unseen"]]
        parts = [group[measure]["mean"] if group else None for group in groups for measure in "JF"]
        return [scores["overall"], *parts, scores["J&F"]]
    return [scores["J&F"], *(scores[measure][name] for measure, name in MEASURED)]


def mark_best(
    rows: Sequence[Sequence[float | None]], heads: Sequence[str]
) -> list[list[tuple[str | None, bool]]]:
    """Each number as it is shown, and whether it is the best of its column as shown.

    Args:
      rows: of numbers, a row a method; None where there is none.
      heads: of the columns; of a decay, less is better.
    """
    shown = [[None if value is None else f"{value:.3f}" for value in row] for row in rows]
    best: list[float | None] = []
    for k, head in enumerate(heads):
        there = [float(text) for row in shown if (text := row[k]) is not None]
        choose = min if head.endswith("decay") else max
        best.append(choose(there) if there else None)
    return [
        [(text, text is not None and float(text) == best[k]) for k, text in enumerate(row)]
        for row in shown
    ]


def notes(scores: dict) -> list[str]:
    """What a reader of the table must know: lines, or none."""
    lines = []
    if scores["protocol"] == "youtube_vos":
        missing = [name for name in ("seen", "unseen") if not scores[name]]
        lack = f" (there are no objects of {missing[0]} categories)" if missing else ""
        lines.append(f"overall is the mean of J and F of seen and unseen{lack}")
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
    """Markdown of a table of text, heads first: the first column to the left, the rest right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])} |"
        for cells in [table[0], rule, *table[1:]]
    )


def _mean_name(scores: dict) -> str:
    # The mean over objects is not the mean of the rows above it, which are sequences.
    return "mean" if scores["protocol"] == "davis2016" else f"mean of {scores['objects']} objects"
