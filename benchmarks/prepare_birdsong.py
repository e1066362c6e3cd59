"""Birdsong, 1-D audio: syllables as onsets and offsets, moved in time to make weak labels.

``python benchmarks/prepare_birdsong.py SOURCE OUT``. One sample is one song, and a song is a group;
both birds are in every part. In a weak label every onset and offset is moved by a normal deviate
(``--jitter`` milliseconds); in a share (``--gross``) the whole song is also 100 to 300 ms late or
early. The two birds were annotated under different conventions: that difference is real.
"""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np

from data_folder import DataFolder, dice, divide, fail, generator, options

Event = tuple[float, float, str]
HEADER = ("onset_s", "offset_s", "label")
SHORTEST = 0.005  # seconds


def read_events(path: Path) -> list[Event]:
    """Onset and offset in seconds and a name, one per row."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [(float(r["onset_s"]), float(r["offset_s"]), r["label"]) for r in rows]


def misplaced(
    events: list[Event], random: np.random.Generator, deviation: float, shift: float, end: float
) -> list[Event]:
    """The same events with borders moved at random, in order, apart, and inside the recording."""
    out: list[Event] = []
    free = 0.0
    for onset, offset, name in events:
        first, last = np.array([onset, offset]) + random.normal(shift, deviation, 2)
        first = max(float(first), free)
        last = min(max(float(last), first + SHORTEST), end)
        if last - first >= SHORTEST - 1e-9:
            out.append((first, last, name))
            free = last
    return out


def painted(events: list[Event], names: list[str], end: float) -> np.ndarray:
    """The events on a grid of milliseconds: 0 for silence, then one number per name."""
    grid = np.zeros(int(end * 1000) + 1, np.uint8)
    for onset, offset, name in events:
        grid[round(onset * 1000) : round(offset * 1000)] = names.index(name) + 1
    return grid


def _write(events: list[Event], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([f"{a:.5f}", f"{b:.5f}", name] for a, b, name in events)


def _duration(path: Path) -> float:
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


def _songs(source: Path, classes: bool) -> dict[str, list[Event]]:
    songs = {}
    for path in sorted((source / "audio").glob("*.wav")):
        events = read_events(source / "labels" / f"{path.stem}.csv")
        songs[path.stem] = [(a, b, name if classes else "syllable") for a, b, name in events]
    return songs or fail(f"no WAV files in {source / 'audio'}")


def main() -> None:
    parser = options(__doc__.splitlines()[0], strong=0.3, val=0.4)
    parser.add_argument("--jitter", type=float, default=15.0, help="deviation of a border, in ms")
    parser.add_argument("--gross", type=float, default=0.25, help="share of gross errors")
    parser.add_argument("--classes", action="store_true", help="keep the syllables' own names")
    given = parser.parse_args()
    songs = _songs(given.source, given.classes)
    names = sorted({name for events in songs.values() for *_, name in events})
    folder = DataFolder(given.out)
    parts = divide({song: song.split("_")[0] for song in songs}, given)
    for song in sorted(parts):
        recording = given.source / "audio" / f"{song}.wav"
        image, end = folder.copy(recording, f"images/{song}.wav"), _duration(recording)
        truth, part = songs[song], parts[song]
        label = f"labels/{'weak' if part == 'weak' else 'strong'}/{song}.csv"
        folder.add(image, label, part, song)
        if part != "weak":
            _write(truth, folder.place(label))
            continue
        random = generator(given.seed, song)
        gross = bool(random.random() < given.gross)
        shift = float(random.choice([-1, 1]) * random.uniform(0.1, 0.3)) if gross else 0.0
        weak = misplaced(truth, random, given.jitter / 1000, shift, end)
        _write(weak, folder.place(label))
        _write(truth, folder.place(f"truth/{song}.csv"))
        quality = dice(painted(weak, names, end), painted(truth, names, end))
        folder.note_truth(label, f"truth/{song}.csv", quality, gross)
    classes = {"silence": 0} | {name: i for i, name in enumerate(names, 1)}
    spec = {"task": "segmentation", "dims": 1, "suffix": ".csv", "classes": classes}
    folder.finish(spec)


if __name__ == "__main__":
    main()
