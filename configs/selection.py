"""Videos for model selection, which no shipped weights were trained on.

They include crowds, look-alikes, and small, fast and dark objects; `python -m benchmarks.selection`
scores on them. Keys are folders in $QMRA_DATA, in the DAVIS layout.
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
