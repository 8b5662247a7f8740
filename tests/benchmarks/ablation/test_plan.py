"""Rows, seeds and overrides become configs; unfair comparisons are refused."""

import pytest

from benchmarks.ablation.plan import Run, make_plan
from configs import ablations, small
from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes

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


def test_a_row_keeps_the_settings_of_its_base():
    assert ablations.get_config("no_crm@youtube_vos").model.backbone == "resnet50"
    coco = ablations.get_config("full@pretrain_static:coco")
    assert "coco_masks:train" in coco.data.static


@pytest.mark.parametrize(
    ("text", "named"),
    [("nothing", "nothing"), ("full@large", "large"), ("full@pretrain_static:lvis", "coco")],
)
def test_an_unknown_name_is_refused(text, named):
    with pytest.raises(ValueError, match=named):
        ablations.get_config(text)


def test_groups_name_rows_once_and_the_papers_rows_have_its_numbers():
    names = [name for names in ablations.GROUPS.values() for name in names]
    assert len(names) == len(set(names))
    assert set(names) <= set(NAMES)  # new rows need no group
    assert tuple(ablations.PAPER) == ablations.TABLE_3
    assert set(ablations.TABLE_3) <= set(NAMES)
    assert ablations.PAPER["no_qma"] == (72.2, 81.5, 53.7, 32.2)  # the table's line "w/o QMA"


def test_table_3_takes_eight_trainings_per_seed():
    plan = make_plan(seeds="0,3")
    assert len(plan.runs) == 18
    served = plan.trainings()
    assert len(served) == 16
    assert [run.row for run in served[Run("full", 3)]] == ["full", "no_ef"]
    assert plan.config(Run("full", 3)).seed == 3
    # Whole tables of one seed come first.
    assert [run.seed for run in plan.runs] == [0] * 9 + [3] * 9


def test_overrides_apply_to_all_rows_with_their_types():
    overrides = ["--config.steps=240", "--config.data.crop=96"]
    plan = make_plan("full,no_bca,full", "0,0", overrides=overrides)  # each once
    assert [str(run) for run in plan.runs] == ["full seed 0", "no_bca seed 0"]
    for run in plan.runs:
        config = plan.config(run)
        assert (config.steps, config.data.crop) == (240, 96)
    assert plan.arguments(plan.runs[1])[0].endswith("ablations.py:no_bca@small")
    assert plan.arguments(plan.runs[1])[1:] == [*plan.overrides, "--config.seed=0"]


def test_the_command_reproduces_the_plan_with_qmra_data_by_name(monkeypatch):
    monkeypatch.setenv("QMRA_DATA", "/disk/data")
    plan = make_plan(overrides=["--config.init.encoders=/disk/data/r18.npz"])
    assert plan.command().endswith(
        "--configs=table3 --seeds=0 --base=small --config.init.encoders=$QMRA_DATA/r18.npz"
    )


def test_each_row_and_seed_starts_from_its_own_weights():
    plan = make_plan("no_bca,no_ef", "0,1", "youtube_vos", init_from="runs/pre")
    starts = {str(run): plan.config(run).init_from for run in plan.runs}
    assert starts["no_bca seed 1"] == "runs/pre/no_bca/seed1"
    assert starts["no_ef seed 0"] == "runs/pre/full/seed0"
    assert "--config.init_from=runs/pre/no_bca/seed1" in plan.arguments(Run("no_bca", 1))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"rows": "full,fool"}, "fool"),
        ({"seeds": "0,-1"}, "-1"),
        ({"base": "huge"}, "huge"),
        ({"overrides": ["--config.seed=3"]}, "--seeds"),
        ({"overrides": ["--config.stepz=3"]}, "stepz"),
        ({"overrides": ["--config.steps=many"]}, "many"),
        ({"overrides": ["--config.model.aggregator=none"]}, "no_bca changes model.agg"),
        ({"base": "youtube_vos"}, "runs/pretrain"),
        ({"init_from": "runs/pre", "overrides": ["--config.init_from=other"]}, "other"),
    ],
)
def test_unfair_comparisons_are_refused_in_one_line(arguments, named):
    with pytest.raises(InputError, match=named) as refused:
        make_plan(**({"rows": "full,no_bca"} | arguments))
    assert "\n" not in str(refused.value)
