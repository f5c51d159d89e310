"""The tables of speed for results.md: training, decoding, data path, start. "" where one was not measured."""

from collections.abc import Callable
from typing import Any

Read = Callable[[str], list[dict[str, Any]]]
Table = Callable[[list[str], list[list[str]]], str]


def sections(read: Read, table: Table) -> list[str]:
    return [
        training(read, table),
        decode(read, table),
        cache(read, table),
        datapath(read, table),
        shards(read, table),
        start(read, table),
    ]


def on(figures: dict[str, Any]) -> str:
    m = figures["machine"]
    what = f"{m['processor']}, {m['cores']} cores, Python {m['python']}, torch {m['torch']}, commit {m['commit']}"
    return f"`{figures['command']}`; {what}"


def spread(figures: dict[str, float] | None, digits: int = 0) -> str:
    """median (lowest to highest)."""
    if figures is None:
        return ""
    middle, low, high = (f"{figures[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def versions(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in row["versions"].items())


STEMS = {"small": "its stem 3 x 3 without pooling", "published": "as published"}


def training(read: Read, table: Table) -> str:
    parts = []
    for f in read("training-*.json"):
        rows = [
            [
                name,
                f"{row['settings']['optimizer']}, {row['settings']['precision']}",
                spread(row["images_per_cpu_s"], 1),
                spread(row["of_bare"], 2),
                spread(row["images_per_s"], 1),
                spread(row["whole_wall_s"], 0),
                versions(row),
            ]
            for name, row in f["contenders"].items()
        ]
        head = ["trainer", "optimiser, precision", "images per CPU second", "of the bare loop", "images/s",
                "whole command s", "versions"]  # fmt: skip
        parts += [
            f"## Training beside other trainers, {f['stem']} stem",
            f"ResNet-18 at 32 px, {STEMS[f['stem']]}, {f['pictures']['per_class']:,} pictures of each class "
            f"({f['pictures']['from']}), batches of 64, one thread; median, lowest and highest of {f['repeats']} "
            f"repetitions, ratios within one; {on(f)}",
            table(head, rows),
        ]
        parts += over(f)
    return "\n\n".join(parts)


def over(figures: dict[str, Any]) -> list[str]:
    """ "" where no other trainer was measured."""
    if not figures["over_best"]:
        return []
    names = ", ".join(figures["over_the_best_of"])
    lines = [
        f"- `{name}`: **{spread(ratio, 2)}** of the best of {names} as they are documented, "
        f"{spread(figures['over_best_of_either_layout'][name], 2)} of the best of them in either layout"
        for name, ratio in figures["over_best"].items()
    ]
    about = (
        "In the same repetition. `fit` has the optimiser and precision of the others; `fit, defaults` is not like for "
        "like. `fit` and `bare` are channels_last, and `fit` keeps freed memory, as `bare, memory kept` does. Decoding "
        "is in the time of the others alone, and in the whole command of all."
    )
    return ["\n".join(lines), about]


def decode(read: Read, table: Table) -> str:
    parts = []
    for f in read("decode.json"):
        rows = [
            [row["what"], spread(row["us"], 1), spread(row["pillow_us"], 1), spread(row["of_pillow"], 2)]
            for row in f["rows"]
        ]
        m = f["machine"]
        parts += [
            "## From the bytes of a JPEG to pixels",
            "What `data.preprocess` takes for a picture, CPU microseconds in one thread, beside Pillow alone; all "
            f"pixels are equal. Median, lowest and highest of {f['repeats']} repetitions, ratios within one; {on(f)}, "
            f"Pillow {m['pillow']}, simplejpeg {m['simplejpeg']}",
            table(["picture", "microseconds", "Pillow alone", "of Pillow alone"], rows),
        ]
    return "\n\n".join(parts)


def cache(read: Read, table: Table) -> str:
    parts = []
    for f in read("cache.json"):
        rows = [
            [
                f"{row['what']}, {row['pictures']:,}",
                spread(row["alone_per_s"]),
                spread(row["build_per_s_and_core"]),
                spread(row["of_alone"], 2),
                spread(row["of_together"], 2),
                f"{row['goal']:.2f}",
                spread(row["killed_and_taken_up"], 2),
            ]
            for row in f["rows"]
        ]
        head = ["pictures", "alone, a second", "build, a second and core", "of alone"]
        head += ["of together", "goal", "killed and taken up"]
        parts += [
            "## Filling the pixel cache",
            f"`data.images.build` by {f['cores']} cores, all that it does among it, beside decoding and resizing alone "
            "in one process on one core, and in a process for each core at once; then the time of a build that was "
            "killed half way and of the one that goes on, in that of one build. "
            f"Median, lowest and highest of {f['repeats']} repetitions, ratios within one; {on(f)}",
            table(head, rows),
        ]
    return "\n\n".join(parts)


def datapath(read: Read, table: Table) -> str:
    parts = []
    for f in read("datapath.json"):
        rows = [
            [
                f"{row['side']} px ({f['pictures'][str(row['side'])]})",
                row["what"],
                spread(row["images_per_cpu_s"]),
                spread(row["of_torchvision"], 1),
                "" if row["goal"] is None else f"{row['goal']:,}",
                decoding(row["settings"]),
                versions(row),
            ]
            for row in f["rows"]
        ]
        parts += [
            "## From a folder of JPEGs to batches",
            "Random crop, flip, normalisation; nothing trained; one thread. Ours decodes once, and the figure is of "
            "the epochs after that; at 128 px it cuts its parts out of the picture as it was decoded to that size, and "
            "the others out of the photograph in its full size, which is dearer and sharper; "
            f"median, lowest and highest of {f['repeats']} repetitions; {on(f)}",
            table(["pictures", "data path", "images per CPU second", "of torchvision", "goal", "decoding once, CPU s",
                   "versions"], rows),
        ]  # fmt: skip
    return "\n\n".join(parts)


def shards(read: Read, table: Table) -> str:
    parts = []
    for f in read("shards.json"):
        rows = [
            [
                "{} px ({}, {:,} pictures)".format(row["side"], *told(f["pictures"][str(row["side"])])),
                str(row["workers"]),
                row["what"],
                spread(row["images_per_cpu_s"]),
                spread(row["of_imagefolder"], 2),
                "" if row["goal"] is None else f"{row['goal']:.1f}",
                spread(row["images_per_s"]),
                versions(row),
            ]
            for row in f["rows"]
        ]
        parts += [
            "## Batches out of shards",
            "Every picture decoded in every epoch; random crop, flip, normalisation, batches of 64; nothing trained. "
            "ImageFolder reads the files, the others the same pictures in shards; at 128 px this project cuts its "
            "parts out of the picture at that size, the others out of the file's. CPU seconds are those of all "
            f"processes. Median, lowest and highest of {f['repeats']} repetitions, ratios within one; {on(f)}. "
            f"{f['note']}".strip(),
            table(["pictures", "workers", "what", "images per CPU second", "of ImageFolder", "goal", "images/s",
                   "versions"], rows),
        ]  # fmt: skip
    return "\n\n".join(parts)


def told(pictures: Any) -> tuple[str, int]:
    source, size = pictures
    return source, size["pictures"]


def decoding(settings: dict[str, Any]) -> str:
    if "prepare_cpu_s" not in settings:
        return ""
    return f"{settings['prepare_cpu_s']:.1f} for {settings['pictures']:,}"


def start(read: Read, table: Table) -> str:
    parts = []
    for f in read("start.json"):
        rows = [["`import torch` alone", spread(f["import_torch_s"], 1)]]
        rows += [[f"until: {what}", spread(figures, 1)] for what, figures in f["seen_after_s"].items()]
        rows.append(["**first step, beyond `import torch`** (goal under 3)", spread(f["beyond_torch_s"], 1)])
        imports = [[row["package"], f"{row['own_s']:.2f}", str(row["modules"])] for row in f["imports"]]
        parts += [
            "## From the command to the first step",
            f"`trainserve run digits`, warm caches, {f['threads']} threads; {on(f)}",
            table(["what", "seconds (median, lowest to highest)"], rows),
            "Imports until the first epoch had ended, under `-X importtime`, which makes them slower:",
            table(["package", "own seconds", "modules"], imports),
        ]
    return "\n\n".join(parts)
