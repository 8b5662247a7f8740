"""Videos that weights are chosen by, and that no shipped weights were trained on.

Crowds, look-alikes, small, fast and dark things among them; `python -m benchmarks.selection` scores
on them. By folder below $QMRA_DATA, each in the DAVIS layout.
"""

SELECTION: dict[str, tuple[str, ...]] = {
    "davis2016": (
        "bmx-bumps",
        "breakdance-flare",
        "dance-jump",
        "drift-turn",
        "lucia",
        "mallard-water",
        "scooter-gray",
        "soccerball",
    ),
    "cdnet_highway": ("highway-05", "highway-10"),
    "web_clips_pseudo": ("cyclist-road", "lion", "skateboarder-street", "snowboarder"),
}

HELD_OUT = tuple(f"{folder}/{name}" for folder, names in SELECTION.items() for name in names)
