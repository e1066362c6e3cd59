"""Labels from and to other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelmend.cli.output import Flag, make_watcher

Quality = Literal["strong", "weak"]
Crowd = Literal["object", "unknown"]
Which = Literal["strong", "weak", "all"]


def import_(
    source: Path,
    /,
    *,
    out: Path,
    format: str = "auto",
    images: Path | None = None,
    quality: Quality = "strong",
    annotator: str = "",
    classes: str = "",
    band: float = 0.0,
    crowd: Crowd | None = None,
    quiet: Flag = False,
) -> int:
    """Make a data folder out of the labels of another tool.

    Parameters
    ----------
    source
        The file or folder that the other tool wrote.
    out
        The data folder to make; must not exist or be empty.
    format
        coco, labelme, label-studio, cvat, geojson, yolo, voc, png,
        nifti, events or audacity; auto looks at the content.
    images
        The folder of the images, where they lie elsewhere.
    quality
        How far the labels are trusted: strong or weak.
    annotator
        Who drew them, where the files do not say.
    classes
        The classes in the order wanted, with commas between;
        by default all that the files name.
    band
        Positions at most so far from the border of an object
        become unknown; 0 is none.
    crowd
        What iscrowd 1 of COCO means: object (masks of CVAT)
        or unknown positions; by default unknown, and asked
        where every annotation has it.
    quiet
        Say nothing but what went wrong.
    """
    from labelmend.exchange.taking import Wish, import_labels

    named = tuple(classes.split(",")) if classes else ()
    wish = Wish(images, quality, annotator, named, band, crowd)
    watcher = make_watcher(quiet, title="importing")
    result = import_labels(source, out, format=format, wish=wish, watcher=watcher)
    if not quiet:
        print(f"{result.to_text()}\nnext: labelmend check {out}")
    return 0


def export_labels(
    data: Path,
    /,
    *,
    format: str,
    out: Path,
    quality: Which = "all",
    annotator: str | None = None,
    copy_images: Flag = False,
    quiet: Flag = False,
) -> int:
    """Write the labels of a data folder as files of another tool.

    Parameters
    ----------
    data
        The data folder.
    format
        coco, labelme, label-studio, cvat, geojson, yolo, voc, png,
        nifti, events or audacity.
    out
        The folder to make; must not exist or be empty.
    quality
        Which labels: strong, weak or all.
    annotator
        Only labels by this person.
    copy_images
        Copy the images as well, to where the tool looks for them.
    quiet
        Say nothing but what went wrong.
    """
    from labelmend.exchange.giving import export_labels as give_out

    watcher = make_watcher(quiet, title="exporting")
    result = give_out(
        data,
        out,
        format,
        quality=quality,
        annotator=annotator,
        copy_images=copy_images,
        watcher=watcher,
    )
    if not quiet:
        print(result.to_text())
    return 0
