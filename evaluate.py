"""Evaluates QMRA on a dataset: from boxes to masks of every video, scores and a table.

    python evaluate.py --weights=weights/qmra-small.safetensors --dataset=davis2016 \\
        --data_dir=DAVIS --output=results/val
    python evaluate.py --workdir=runs/small --dataset=youtube_vos --split=valid_all_frames \\
        --data_dir=YouTubeVOS --output=results/ytvos      # results.zip for the server
    python evaluate.py --weights=WEIGHTS --dataset=folder --data_dir=MINE --output=results/mine

The same command resumes an interrupted run; it keeps finished sequences that were made with the
same settings. Several hosts that share the dataset and the output folder each take --shard=I/N; the
last one to finish scores and packs the results, or else the command without --shard does. Their
devices must be of one platform (all CPUs, or all GPUs), and their qmra-jax of one version.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from data_pipeline.eval_videos import DATASETS, EvalVideo, find_eval_videos
from qmra_jax import __version__, errors, plugins, weights
from qmra_jax.evaluation import segmenter
from qmra_jax.evaluation.results import Results, model_digest
from qmra_jax.images import check_headers, check_whole
from qmra_jax.inference import memory_bank
from qmra_jax.inference.object_merging import MERGES
from qmra_jax.network.build import build_model
from qmra_jax.runtime import compile_cache
from qmra_jax.scoring import score as scoring
from qmra_jax.training import checkpoint


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="a .safetensors file")
    source.add_argument("--workdir", type=Path, help="a training run: use its newest checkpoint")
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS, help="folder: your own, in DAVIS's layout")
    add("--data_dir", type=Path, required=True, help="root of the dataset")
    add(
        "--split",
        help="a list of ImageSets; for YouTube-VOS train, valid or valid_all_frames; `all`: every"
        " video (default: val; for YouTube-VOS valid; for a folder all)",
    )
    add("--output", type=Path, required=True, help="folder for Annotations/ and scores.json")
    add("--sequences", nargs="+", help="only these sequences of the split")
    add(
        "--start",
        choices=segmenter.STARTS,
        help="how objects are given to the network: the tight box of their mask, or the mask, of"
        " which QMRA uses the same box (default: box; mask if the network remembers masks, as STM)",
    )
    add(
        "--short_side",
        type=int,
        help="resize frames to this many pixels on their shorter side for the network; 0: never"
        " (default: the size stated in the weights file, or else 480; of a --workdir 0)",
    )
    add(
        "--enlarge",
        action=argparse.BooleanOptionalAction,
        help="enlarge frames smaller than --short_side too (default: if the weights file states a"
        " size)",
    )
    add(
        "--interval",
        type=int,
        help="keep every N-th frame in the memory (default: as stated in the weights file, or 10;"
        " 5 for YouTube-VOS)",
    )
    add(
        "--max_memory", type=int, help="memory frames; 0: unbounded (default: 20; of a --workdir 0)"
    )
    add(
        "--extra_frames",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="--no-extra_frames: only the first and the previous frame, as --max_memory=2",
    )
    add("--merge", choices=sorted(MERGES), default="softmax", help="how to merge objects")
    add("--dtype", choices=("float32", "bfloat16"), help="of the network (default: the model's)")
    add("--skip_bad", action="store_true", help="give unreadable frames the previous mask")
    add(
        "--zip",
        action=argparse.BooleanOptionalAction,
        help="write results.zip for the benchmark's server (default: for YouTube-VOS without"
        " ground truth)",
    )
    add("--plugin", action="append", default=[], metavar="MODULE", help="a plugin to import")
    add("--shard", default="1/1", metavar="I/N", help="segment only this part, from 1/N to N/N")
    add("--overwrite", action="store_true", help="replace results made with other settings")
    return parser.parse_args(arguments)


def evaluate(args: argparse.Namespace) -> None:
    """Segments this host's shard; if all sequences are then finished, scores and packs them.

    Raises:
      InputError: if an option or a file is unfit; options and files are checked before any result
        is changed.
    """
    # ----------------------------------------------------------------- videos
    shard_index, shard_count = segmenter.parse_shard(args.shard)
    dataset = find_eval_videos(args.data_dir, args.dataset, split=args.split, names=args.sequences)
    prompts = {start.mask for video in dataset.videos for start in video.starts.values()}
    check_headers(pair for pair in dataset.pairs if not args.skip_bad or pair[1] in prompts)

    # ---------------------------------------------------------------- network
    if args.weights:
        module, variables, _ = weights.load(args.weights)
    else:
        config, variables = checkpoint.restore_model(args.workdir)
        module = build_model(config.model)
    weights_digest = model_digest(module, variables)
    module = module.clone(dtype=args.dtype or module.dtype)
    start = args.start or module.remembers
    inference = module.inference.updated(
        interval=5 if args.interval is None and args.dataset == "youtube_vos" else args.interval,
        short_side=args.short_side,
        enlarge=args.enlarge,
        max_memory=memory_bank.bound(
            args.max_memory, args.extra_frames, module.inference.max_memory
        ),
    )
    options = {**inference._asdict(), "merge": args.merge}
    settings = {
        **options,
        "start": start,
        "dtype": module.dtype,
        # Another release, or another kind of device, may give other masks.
        "version": __version__,
        "platform": jax.local_devices()[0].platform,
    }
    make = segmenter.make_segmenter(
        module, variables, start=start, skip_bad=args.skip_bad, **options
    )

    # ------------------------------------------------------------------ masks
    made_with = {"weights": weights_digest, **settings}
    results = Results(args.output, dataset.videos, made_with, skip_bad=args.skip_bad)
    shard = {v.name for v in segmenter.shard(dataset.videos, shard_index, shard_count)}
    check_frames(
        [v for v in dataset.videos if v.name in shard and not results.finished(v.name)],
        skip_bad=args.skip_bad,
    )
    left = [video for video in results.claim(overwrite=args.overwrite) if video.name in shard]
    if kept := len(shard) - len(left):
        print(f"{kept} of {len(shard)} sequences are already finished")

    def segment(to_masks: segmenter.Segmenter, video: EvalVideo, tick: Callable[[], None]) -> None:
        results.finish(video.name, to_masks(video, results.begin(video.name), tick))

    total = sum(len(video.frames) for video in left)
    with tqdm(total=total, unit="frame", desc="segment", disable=not left) as bar:
        segmenter.over_devices(left, make, segment, jax.local_devices(), tick=bar.update)
    timings = {name: timing for name in results.videos if (timing := results.finished(name))}
    if unfinished := len(results.videos) - len(timings):
        print(f"{unfinished} of {len(results.videos)} sequences are left to other shards")
        return

    # ----------------------------------------------------------------- scores
    scores: dict = {"sequences": {}}
    if dataset.protocol:
        scores = scoring.score_folder(
            args.data_dir,
            args.output,
            protocol=dataset.protocol,
            split=dataset.split,
            year=dataset.year,
            sequences=args.sequences,
        )
    for name, sequence in scores["sequences"].items():
        if timings[name].steps:
            sequence["fps"] = timings[name].steps / timings[name].step_seconds
    if steps := sum(timing.steps for timing in timings.values()):
        scores["fps"] = steps / sum(timing.step_seconds for timing in timings.values())
    scores["wall_seconds"] = sum(timing.wall_seconds for timing in timings.values())
    scores["carried"] = {name: list(t.carried) for name, t in timings.items() if t.carried}
    scores |= settings

    # ----------------------------------------------------------------- report
    for name, frames in scores["carried"].items():
        print(f"{name}: unreadable frames, which have the previous mask: {', '.join(frames)}")
    if dataset.protocol:
        print(scoring.format_table(scores))
    if "fps" in scores:
        print(
            f"{scores['fps']:.1f} fps of the network, until its result is on the host; in all"
            f" {scores['wall_seconds']:.0f} s including compiling and disk, summed over sequences"
        )
    if dataset.protocol:
        print(scoring.write_scores(scores, args.output))
    else:
        print(f"no scores: {dataset.unscored}\n{results.annotations}")
    is_youtube_vos = args.dataset == "youtube_vos"
    if args.zip or (args.zip is None and is_youtube_vos and not dataset.protocol):
        print(results.pack("Annotations/" if is_youtube_vos else ""))


def check_frames(videos: Sequence[EvalVideo], *, skip_bad: bool) -> None:
    """Checks that no frame is truncated; with `skip_bad`, only those that cannot be skipped.

    Raises:
      InputError: if one is.
    """
    if skip_bad:
        frames = [v.frames[k] for v in videos for k in (*range(min(v.starts)), *v.starts)]
        advice = "replace them: where objects enter, and before the first one, none can be skipped"
    else:
        frames = [frame for video in videos for frame in video.frames]
        advice = "replace them, or use --skip_bad to give them the previous mask"
    check_whole(frames, advice)


def main() -> None:
    """Runs `evaluate` with the command line's arguments."""
    args = parse_args()
    compile_cache.keep_compiled_programs()
    with errors.exit_on_input_error():
        plugins.load_plugins(args.plugin)
        try:
            evaluate(args)
        except KeyboardInterrupt:
            print("interrupted: run the same command to resume", file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
