"""An ablation's folder as table.md, table.csv and differences.png."""

from benchmarks import network_cost
from benchmarks.ablation import forecast
from benchmarks.ablation.examination import FIRST_AND_PREVIOUS
from benchmarks.ablation.plan import Run, make_plan
from benchmarks.ablation.plot import write_differences
from benchmarks.ablation.runs import Runs
from benchmarks.ablation.table import Row, comma_separated, markdown
from configs.ablations import PAPER_WITH_COCO
from qmra_jax.files import written_whole
from qmra_jax.network.model import build_model

# Operations are counted with so many frames in the memory: about a DAVIS video's mean at an
# interval of 10, and what benchmarks/inference.py takes.
MEMORY = 5
FRAME = (480, 854)  # DAVIS's 480p, before eval.short_side shrinks it


def cost(runs: Runs, run: Run) -> tuple[int, int]:
    """A row's parameters, and the floating-point operations of a frame; see `network_cost`."""
    config = runs.plan.config(run)
    module = build_model(config.model)
    memory = MEMORY if config.eval.extra_frames else FIRST_AND_PREVIOUS
    flops = network_cost.frame_flops(module, *_frame(config.eval.short_side), memory)
    return network_cost.parameters(module), flops


def _frame(short_side: int) -> tuple[int, int]:
    height, width = FRAME
    return (short_side, round(width * short_side / height)) if short_side else FRAME


def write_report(runs: Runs, problems: dict[Run, str]) -> None:
    """Writes table.md, table.csv and differences.png, of all that lies in the folder.

    Args:
      runs: of this command.
      problems: why some of its runs failed.
    """
    plan = runs.plan
    done = runs.others()
    whole = make_plan(
        ",".join(dict.fromkeys([*plan.rows, *(row for row, _ in done)])),
        ",".join(map(str, dict.fromkeys([*plan.seeds, *(seed for _, seed in done)]))),
        plan.base,
        plan.overrides,
        plan.init_from,
    )
    found = Runs(runs.folder, whole, start=lambda *_: 0)
    found.check(trains=False)
    rows = []
    for name in whole.rows:
        own = [run for run in whole.runs if run.row == name]
        scores = {run.seed: scores for run in own if (scores := found.scores(run))}
        trainings = [whole.training(run) for run in own if found.is_trained(whole.training(run))]
        times = [found.training_seconds(training) for training in trainings]
        rows.append(
            Row(
                name,
                scores,
                *cost(found, own[0]),
                seconds=[seconds for seconds, is_all in times if is_all],
                trained_as=own[0].trained_as,
            )
        )
    missing = [
        f"{run}: {problems.get(run) or forecast.state(runs, run)}"
        for run in plan.runs
        if not runs.scores(run)
    ]
    texts = {
        "table.md": markdown(rows, notes=_notes(found), missing=missing),
        "table.csv": comma_separated(rows),
    }
    for name, text in texts.items():
        with written_whole(runs.folder / name) as part:
            part.write_text(text)
    write_differences(runs.folder / "differences.png", rows)


def _notes(runs: Runs) -> list[str]:
    """What a reader of the table must know."""
    plan = runs.plan
    config = plan.config(plan.runs[0])
    height, width = _frame(config.eval.short_side)
    masks = {
        run.row for run in plan.runs if build_model(plan.config(run).model).remembers == "mask"
    }
    start = "from the tight box of each first mask"
    if masks:
        start += f"; {', '.join(sorted(masks))} from that mask itself"
    shared = {run.row: run.trained_as for run in plan.runs if run.row != run.trained_as}
    notes = [
        f"`{plan.command()} --workdir=...`",
        f"Every row: {config.steps} steps of {config.batch_size} triplets at"
        f" {config.data.crop}x{config.data.crop}, the same data in the same order. Scored:"
        f" {config.eval.videos} by {config.eval.protocol}, short side"
        f" {config.eval.short_side or 'as it is'}, {start}.",
        "± is the sample standard deviation over seeds; of a difference, that of the differences of"
        " equal seeds. Training is the whole time of train.py, starting and compiling included."
        f" Operations: one object in a frame of {height}x{width}, {MEMORY} frames in the memory"
        f" ({FIRST_AND_PREVIOUS} without extra frames); convolutions and matrix products by their"
        " definition, 2 a multiply-add.",
        "The paper's columns are its Table 3: ResNet-50, DAVIS 2016's val and YouTube-VOS's valid,"
        " its own training. Differences may be compared, sizes not. (Its last row, trained on COCO"
        f" too: {', '.join(map(str, PAPER_WITH_COCO))}.)",
    ]
    if shared:
        texts = (f"{row} with {trainer}" for row, trainer in shared.items())
        notes.append(f"Share a training, as they differ in inference alone: {', '.join(texts)}.")
    return notes
