"""Electrocardiograms (LUDB), 1-D: P, QRS and T waves whose borders were moved to make weak labels.

``python benchmarks/prepare_ludb.py SOURCE OUT``. One sample is one lead of one record; a record is
a group. In a weak label every border of every wave is moved by a normal deviate (``--jitter``
milliseconds); in a share of them (``--gross``) all waves are also 100 to 200 ms too early or too
late. Positions outside the annotated stretch of a lead stay 255: nobody said.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from data_folder import DataFolder, dice, divide, fail, generator, options

RATE = 500
IGNORE = 255
SHORTEST = 5  # positions: 10 ms
SPEC = {
    "task": "segmentation",
    "dims": 1,
    "ignore": IGNORE,
    "spacing": [1 / RATE],
    "suffix": ".npy",
    "classes": {"none": 0, "p": 1, "qrs": 2, "t": 3},
}


def waves(label: np.ndarray) -> list[tuple[int, int, int]]:
    """Every stretch of one class as (start, stop, class), in order.

    >>> waves(np.array([255, 0, 1, 1, 2, 0]))
    [(2, 4, 1), (4, 5, 2)]
    """
    borders = np.flatnonzero(np.diff(label)) + 1
    edges = [0, *borders.tolist(), len(label)]
    runs = [(a, b, int(label[a])) for a, b in pairwise(edges)]
    return [run for run in runs if run[2] not in (0, IGNORE)]


def misplaced(
    label: np.ndarray, random: np.random.Generator, deviation: float, shift: float
) -> np.ndarray:
    """The same waves with borders moved at random, all of them shifted; in positions."""
    out = np.zeros_like(label)
    for start, stop, value in waves(label):
        first, last = np.rint(np.array([start, stop]) + random.normal(shift, deviation, 2))
        first = int(min(first, last - SHORTEST))
        out[max(first, 0) : max(int(last), 0)] = value
    out[label == IGNORE] = IGNORE
    return out


def _save(array: np.ndarray, folder: DataFolder, name: str) -> str:
    np.save(folder.place(name), array, allow_pickle=False)
    return name


def main() -> None:
    parser = options(__doc__.splitlines()[0], strong=0.1, val=0.25)
    parser.add_argument("--leads", default="ii", help="names with commas between, or all")
    parser.add_argument("--jitter", type=float, default=30.0, help="deviation of a border, in ms")
    parser.add_argument("--gross", type=float, default=0.25, help="share of gross errors")
    given = parser.parse_args()
    if not (given.source / "dense.npz").is_file():
        fail(f"no dense.npz in {given.source}")
    data = np.load(given.source / "dense.npz")
    known = [str(name) for name in data["lead_names"]]
    leads = known if given.leads == "all" else given.leads.split(",")
    if unknown := set(leads) - set(known):
        fail(f"no lead {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    signals, labels = data["signal_uV"], data["label"]
    rows = {f"r{record:03d}": i for i, record in enumerate(data["record"])}
    folder = DataFolder(given.out)
    parts = divide(dict.fromkeys(rows, ""), given)
    for record in sorted(parts):
        for lead in leads:
            place, part = (rows[record], known.index(lead)), parts[record]
            name, truth = f"{record}_{lead}.npy", labels[place]
            millivolts = signals[place].astype(np.float32) / 1000
            image = _save(millivolts, folder, f"images/{name}")
            if part != "weak":
                folder.add(image, _save(truth, folder, f"labels/strong/{name}"), part, record)
                continue
            random = generator(given.seed, name)
            gross = bool(random.random() < given.gross)
            shift = float(random.choice([-1, 1]) * random.uniform(0.1, 0.2) * RATE) if gross else 0
            weak = misplaced(truth, random, given.jitter / 1000 * RATE, shift)
            label = _save(weak, folder, f"labels/weak/{name}")
            folder.add(image, label, part, record)
            kept = _save(truth, folder, f"truth/{name}")
            folder.note_truth(label, kept, dice(weak, truth), gross)
    folder.finish(SPEC)


if __name__ == "__main__":
    main()
