"""Benchmark tables, and options checked before any work."""

import importlib

import pytest

from benchmarks.tables import Table


def test_a_table_is_markdown_with_right_aligned_numbers():
    table = Table(
        "Speeds", ("source", "triplets/s"), [("stills", 61.234), ("videos", 5.678)], "So."
    )
    assert table.markdown() == (
        "**Speeds**\n\n| source | triplets/s |\n| --- | ---: |\n"
        "| stills | 61 |\n| videos | 5.68 |\n\nSo."
    )


@pytest.mark.parametrize(
    ("name", "option", "named"),
    [
        ("data", "--json=nowhere/a.json", "--json=nowhere/a.json"),
        ("data", "--frames=2", "--frames=2"),
        ("data", "--data=nowhere", "--data=nowhere"),
        ("inference", "--objects 1 0", "--objects=0"),
        ("inference", "--memory=2", "--memory=2"),
        ("long_video", "--frames=3", "--frames=3"),
        ("long_video", "--height=9", "--height=9"),
        ("long_video", "--video=cat.mp4", "--box"),
        ("training", "--config=large", "large"),
        ("training", "--rounds=0", "--rounds=0"),
        ("training", "--crop=100", "--crop=100"),
        ("yardsticks", "--data_dir=nowhere", "nowhere"),
    ],
)
def test_bad_options_are_refused_before_any_work(name, option, named, capsys):
    benchmark = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        benchmark.main(option.split())
    assert ended.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]
