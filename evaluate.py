"""Evaluates QMRA: from objects' boxes to masks of every video of a dataset, scores and a table.

    python evaluate.py --weights=weights/qmra-small.safetensors --dataset=davis2016 \\
        --data_dir=DAVIS --output=results/val
    python evaluate.py --workdir=runs/small --dataset=youtube_vos --split=valid_all_frames \\
        --data_dir=YouTubeVOS --output=results/ytvos      # results.zip for the server
    python evaluate.py --weights=WEIGHTS --dataset=folder --data_dir=MINE --output=results/mine

The same command again goes on where it was interrupted: finished sequences are kept, unless they
were made with anything else. Several hosts that share the dataset and the output folder each take
--shard=I/N; the one that finishes last scores and packs it all, or the command without --shard.
Their devices must be of one platform (all CPUs, or all GPUs), and their qmra-jax of one version.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from data_pipeline.eval_videos import DATASETS, EvalSet, EvalVideo, find_eval_videos
from qmra_jax import errors, weights
from qmra_jax.evaluation import segmenter
from qmra_jax.evaluation.results import Results
from qmra_jax.evaluation.submission import write_zip
from qmra_jax.images import check_headers, check_whole
from qmra_jax.inference import memory_bank
from qmra_jax.inference.object_merging import MERGES
from qmra_jax.network.build import build_model
from qmra_jax.runtime import compile_cache
from qmra_jax.scoring import score as scoring
from qmra_jax.training import checkpoint


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `--help` shows it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="a .safetensors file")
    source.add_argument("--workdir", type=Path, help="a training run: its newest checkpoint")
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS, help="folder: one's own, in DAVIS's layout")
    add("--data_dir", type=Path, required=True, help="root of the dataset")
    add(
        "--split",
        help="a list of ImageSets; of YouTube-VOS train, valid or valid_all_frames; `all`: every"
        " video there is (default: val; valid of YouTube-VOS; all of a folder)",
    )
    add("--output", type=Path, required=True, help="folder for Annotations/ and scores.json")
    add("--sequences", nargs="+", help="only these of the split")
    add(
        "--start",
        choices=segmenter.STARTS,
        help="what the network is told of an object: its mask's tight box, or the mask, of which"
        " QMRA takes that very box (default: box; mask of a network that remembers masks, as STM)",
    )
    add(
        "--short_side",
        type=int,
        help="larger frames are shrunk to this many pixels on their shorter side for the network;"
        " 0 never shrinks (default: the size that the weights file says suits it, or else 0)",
    )
    add(
        "--interval",
        type=int,
        help="every so many frames one stays in the memory (default: 10; 5 of YouTube-VOS)",
    )
    add("--max_memory", type=int, help="frames that the memory may hold (default: no bound)")
    add(
        "--extra_frames",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="--no-extra_frames: the first and the previous frame alone, as --max_memory=2",
    )
    add("--merge", choices=sorted(MERGES), default="softmax", help="how objects become one map")
    add("--dtype", choices=("float32", "bfloat16"), help="of the network (default: the model's)")
    add("--skip_bad", action="store_true", help="a frame that cannot be read keeps the last mask")
    add(
        "--zip",
        action=argparse.BooleanOptionalAction,
        help="make results.zip for the benchmark's server (default: of YouTube-VOS, if not scored)",
    )
    add("--shard", default="1/1", metavar="I/N", help="this host's part of the videos, from 1/N")
    add("--overwrite", action="store_true", help="replace results that were made with other things")
    return parser.parse_args(arguments)


def load(args: argparse.Namespace):
    """The network, its variables, and the short side to use, from a weights file or a run."""
    short_side = args.short_side
    if args.weights:
        module, variables, _ = weights.load(args.weights)
        if short_side is None:
            short_side = weights.suited_short_side(args.weights)
    else:
        config, variables = checkpoint.restore_model(args.workdir)
        module = build_model(config.model)
    return module, variables, short_side or None


def segment(args: argparse.Namespace, chosen: EvalSet) -> tuple[Results, dict]:
    """Makes the masks that are not there yet; gives the folder and the options they are made with.

    Every device of this host takes videos, the longest first, until none of its shard is left.
    """
    index, count = segmenter.parse_shard(args.shard)
    module, variables, short_side = load(args)
    default = 5 if args.dataset == "youtube_vos" else 10
    options = {
        "interval": default if args.interval is None else args.interval,
        "short_side": short_side,
        "max_memory": memory_bank.bound(args.max_memory, args.extra_frames),
        "merge": args.merge,
    }
    start = args.start or module.remembers  # a box, or what STM remembers: a mask
    weights_digest = segmenter.model_digest(module, variables)
    module = module.clone(dtype=args.dtype or module.dtype)
    settings = {
        **options,
        "start": start,
        "dtype": module.dtype,
        # Another release, or another kind of device, may find other masks.
        "version": segmenter.package_version(),
        "platform": jax.local_devices()[0].platform,
    }
    make = segmenter.make_segmenter(module, variables, start=start, carry=args.skip_bad, **options)

    made_with = {"weights": weights_digest, **settings}
    results = Results(args.output, chosen.videos, made_with, carry=args.skip_bad)
    mine = {video.name for video in segmenter.shard(chosen.videos, index, count)}
    made = [v for v in chosen.videos if v.name in mine and not results.finished(v.name)]
    check_frames(made, skip_bad=args.skip_bad)
    left = [video for video in results.claim(overwrite=args.overwrite) if video.name in mine]
    if kept := len(mine) - len(left):
        print(f"{kept} of {len(mine)} sequences are finished already and are kept")
    total = sum(len(video.frames) for video in left)

    def work(segment: segmenter.Segmenter, video: EvalVideo, tick: Callable[[], None]) -> None:
        results.finish(video.name, segment(video, results.begin(video.name), tick))

    with tqdm(total=total, unit="frame", desc="segment", disable=not left) as bar:
        segmenter.over_devices(left, make, work, jax.local_devices(), tick=bar.update)
    return results, settings


def check_frames(videos: Sequence[EvalVideo], *, skip_bad: bool) -> None:
    """Refuses frames that are cut short; with `skip_bad` only where no mask could be carried."""
    if skip_bad:
        needed = [v.frames[k] for v in videos for k in (*range(min(v.starts)), *v.starts)]
        check_whole(needed, "mend them: where objects enter or none has yet, none can be skipped")
    else:
        frames = [frame for video in videos for frame in video.frames]
        check_whole(frames, "mend them, or let --skip_bad carry the mask before over them")


def score(args: argparse.Namespace, chosen: EvalSet, results: Results, settings: dict) -> dict:
    """What `scores.json` holds; J and F only where there is a truth."""
    scores: dict = {"sequences": {}}
    if chosen.protocol:
        scores = scoring.score_folder(
            args.data_dir,
            args.output,
            protocol=chosen.protocol,
            split=chosen.split,
            year=chosen.year,
            sequences=args.sequences,
        )
    timings = {name: timing for name in results.videos if (timing := results.finished(name))}
    for name, sequence in scores["sequences"].items():
        if timings[name].steps:
            sequence["fps"] = timings[name].steps / timings[name].step_seconds
    if steps := sum(timing.steps for timing in timings.values()):
        scores["fps"] = steps / sum(timing.step_seconds for timing in timings.values())
    scores["wall_seconds"] = sum(timing.wall_seconds for timing in timings.values())
    scores["carried"] = {name: list(t.carried) for name, t in timings.items() if t.carried}
    return {**scores, **settings}


def evaluate(args: argparse.Namespace) -> None:
    """Segments, and once every sequence is there scores, prints and packs."""
    chosen = find_eval_videos(args.data_dir, args.dataset, split=args.split, names=args.sequences)
    entered = {start.mask for video in chosen.videos for start in video.starts.values()}
    check_headers(p for p in chosen.pairs if not args.skip_bad or p[1] in entered)
    results, settings = segment(args, chosen)
    if unfinished := [name for name in results.videos if not results.finished(name)]:
        print(f"{len(unfinished)} of {len(results.videos)} sequences are left to other shards")
        return

    scores = score(args, chosen, results, settings)
    for name, frames in scores["carried"].items():
        print(f"{name}: bad frames, which have the mask before: {', '.join(frames)}")
    if chosen.protocol:
        print(scoring.format_table(scores))
    if "fps" in scores:
        print(
            f"{scores['fps']:.1f} fps of the jitted step with its result on the host, compiling and"
            f" disk left out; all in all {scores['wall_seconds']:.0f} s, summed over sequences"
        )
    if chosen.protocol:
        print(scoring.write_scores(scores, args.output))
    else:
        print(f"no scores: {chosen.unscored}\n{results.annotations}")
    if args.zip or (args.zip is None and args.dataset == "youtube_vos" and not chosen.protocol):
        wanted = {name: video.written.values() for name, video in results.videos.items()}
        prefix = "Annotations/" if args.dataset == "youtube_vos" else ""
        print(write_zip(args.output / "results.zip", results.annotations, wanted, prefix=prefix))


def main() -> None:
    """Runs `evaluate`."""
    args = parse_args()
    compile_cache.keep_compiled_programs()
    with errors.exit_on_input_error():
        try:
            evaluate(args)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
