"""Rows, seeds and overrides become configs; what cannot be compared fairly is refused."""

import pytest

from benchmarks.ablation.plan import Run, make_plan
from configs import ablations, small
from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.weights.torch_names import variable_shapes

NAMES = tuple(ablations.ABLATIONS)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_changes_what_its_entry_says_and_builds(name):
    config, base = ablations.get_config(name).to_dict(), small.get_config().to_dict()
    assert (config != base) == (name != "full")
    for key, value in ablations.ABLATIONS[name].items():
        group, setting = key.split(".")
        base[group][setting] = value
    assert config == base
    assert variable_shapes(build_model(config["model"]))["params"]


def test_a_row_of_another_base_keeps_that_ones_settings():
    assert ablations.get_config("no_crm@youtube_vos").model.backbone == "resnet50"
    coco = ablations.get_config("full@pretrain_static:coco")
    assert "coco_masks:train" in coco.data.static


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "ablation 'nothing': expected one of full, 1stage"),
        ("full@large", "base 'large' of 'full@large': expected one of small, smoke"),
        ("full@pretrain_static:lvis", "expected coco after the colon"),
    ],
)
def test_an_unknown_name_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        ablations.get_config(text)


def test_table_3_takes_eight_trainings_as_no_ef_differs_in_inference_alone():
    plan = make_plan(seeds="0,3")
    assert len(plan.runs) == 18
    served = plan.trainings(plan.runs)
    assert len(served) == 16
    full = Run("full", 3, "full")
    assert [run.row for run in served[full]] == ["full", "no_ef"]
    assert plan.config(full).seed == 3
    # Whole tables of one seed come first.
    assert [run.seed for run in plan.runs] == [0] * 9 + [3] * 9


def test_a_row_that_shares_a_training_is_trained_under_one_name_whatever_was_asked_for():
    assert make_plan("no_ef").runs == (Run("no_ef", 0, "full"),)


def test_overrides_hold_for_all_rows_with_their_settings_types():
    plan = make_plan("full,no_bca", overrides=["--config.steps=240", "--config.data.crop=96"])
    for run in plan.runs:
        config = plan.config(run)
        assert (config.steps, config.data.crop) == (240, 96)
    assert plan.arguments(plan.runs[1])[0].endswith("ablations.py:no_bca@small")
    assert plan.arguments(plan.runs[1])[1:] == [*plan.overrides, "--config.seed=0"]


def test_the_command_is_one_for_a_shell_with_the_data_folder_by_its_name(monkeypatch):
    monkeypatch.setenv("QMRA_DATA", "/disk/data")
    share = "--config.data.video_share=((0,0.4),)"
    plan = make_plan(overrides=["--config.init.encoders=/disk/data/r18.npz", share])
    assert plan.command() == (
        "python -m benchmarks.ablation --configs=table3 --seeds=0 --base=small"
        f' --config.init.encoders=$QMRA_DATA/r18.npz "{share}"'
    )


def test_each_row_and_seed_begins_with_its_own_weights_of_an_earlier_ablation():
    plan = make_plan("no_bca,no_ef", "0,1", "youtube_vos", init_from="runs/pre")
    starts = {str(run): plan.config(run).init_from for run in plan.runs}
    assert starts["no_bca seed 1"] == "runs/pre/no_bca/seed1"
    assert starts["no_ef seed 0"] == "runs/pre/full/seed0"
    assert "--config.init_from=runs/pre/no_bca/seed1" in plan.arguments(plan.runs[2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rows": "full,fool"}, "row 'fool' of --configs: expected some of full, "),
        ({"rows": "full,no_bca,full"}, "row full is there twice"),
        ({"seeds": "0,1,0"}, "seed 0 is there twice"),
        ({"seeds": "0,-1"}, "seed '-1' of --seeds: expected whole numbers"),
        ({"base": "huge"}, "base 'huge'"),
        ({"overrides": ["--config.seed=3"]}, "give --seeds=3 instead"),
        ({"overrides": ["--config.stepz=3"]}, "config key 'stepz': there is none of this name"),
        ({"overrides": ["--config.steps=many"]}, "invalid literal for int"),
        (
            {"rows": "full,no_bca", "overrides": ["--config.model.aggregator=bca:reduction=8"]},
            "--config.model.aggregator=bca:reduction=8 undoes row no_bca, which is .*=none",
        ),
        (
            {"rows": "full,no_bca", "overrides": ["--config.model.aggregator=none"]},
            "row no_bca is no other than full, as --config changes model.aggregator for all rows",
        ),
        ({"base": "youtube_vos"}, "init_from 'runs/pretrain' is one network's"),
        (
            {"init_from": "runs/pre", "overrides": ["--config.init_from=other"]},
            "expected one of them",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(arguments, says):
    with pytest.raises(InputError, match=says) as refused:
        make_plan(**arguments)
    assert "\n" not in str(refused.value)
