"""Who finds the bad labels: every judge of weak labels, early, in the middle and at the end.

Labels are planted (``planted.py``): one weak label in three is shifted, of another image, empty,
far too large or far too small; the others are right but for a position or two. In the scene
``same mistake`` three in five are bad, and all in the same way: too large. Each case is trained by
``labelmend.fit`` with the defaults, with signal ``both`` and with constant weights. The figure is
the share of pairs of a good and a bad label that are ranked right (AUROC), mean (least) over seeds.

``weights`` are those of these trainings as they stand, and averaged over all looks at a label,
which parts those that all ended at 0 or 1; both are columns of ``weights.csv``. All other judges
look once at the network that was trained with constant weights, which has more bad labels to learn
by heart. ``confident learning`` is the score of cleanlab, where that is installed.

The constants of the judges were fixed on seeds 0 to 2; the figures are of seeds 3 to 5. Run:
``python benchmarks/bench_label_ranking.py``; results are kept one by one and not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

import planted

RESULTS = Path(__file__).parent / "results" / "label_ranking.json"
STAGES = {"early": 150, "middle": 600, "late": 1500}
WEAK = 150
SEEDS = (3, 4, 5)
CASES = [
    (scene, images, strong)
    for scene, strongs in (("mixed mistakes", (4, 16)), ("same mistake", (16,)))
    for images in ("lesions", "nuclei")
    for strong in strongs
]
TRAINING = {
    "steps": STAGES["late"],
    "network": {"width": 8, "depth": 3},
    "save_every": 150,
    "keep": 20,
}
CHOICES = ("all", "decoder", "last")
CURVATURES = ("identity", "adam", "fisher", "gauss_newton")


def auroc(score: np.ndarray, bad: np.ndarray) -> float:
    """Share of pairs of a good and a bad label with the higher score on the good one."""
    ranks = rankdata(score)
    good = ~bad
    pairs = good.sum() * bad.sum()
    return float((ranks[good].sum() - good.sum() * (good.sum() + 1) / 2) / pairs)


def plant(scene: str, images: str, strong: int, seed: int) -> planted.Planted:
    """The case's images and labels."""
    return planted.SETS[images](strong, WEAK, seed, scene)


def train(case: planted.Planted, out: Path, seed: int, **weighting: Any) -> Any:
    """A run on the case, with a checkpoint at every stage."""
    from labelmend.training.assembly import fit

    data = planted.write(case, out / "data")
    settings = {**TRAINING, "seed": seed, "input": {"val_share": 0.0}, "weighting": weighting}
    run = fit(data, out / "run", **settings)
    shutil.rmtree(out / "data" / "images")
    return run


def weights_at(run: Any, step: int) -> tuple[np.ndarray, np.ndarray]:
    """``(weak,)`` weights as they stood after a step, and their means over all looks until then."""
    place = {sample.id: n for n, sample in enumerate(run.weak)}
    order = sorted(place, key=lambda name: int(Path(name).stem[1:]))
    courses: list[list[float]] = [[] for _ in place]
    for record in run.weight_history():
        if record["step"] <= step:
            for course, value in zip(courses, record["columns"]["weight"], strict=True):
                course.extend([] if value is None else [value])
    began = [run.settings.weighting.initial]
    found = [((course or began)[-1], statistics.mean(course or began)) for course in courses]
    latest, average = np.array([found[place[name]] for name in order]).T
    return latest, average


class Looks:
    """One look of every judge at a network, as a weight step would take it."""

    def __init__(self, case: planted.Planted, run: Any, step: int) -> None:
        from labelmend.networks.build import build_network

        checkpoint = run.load(step)
        network = build_network("unet", 2, 1, 2, **TRAINING["network"])
        network.load_state_dict(checkpoint.tensors["main"])
        self.network = network.eval()
        self.params = dict(network.named_parameters())
        self.image = torch.from_numpy(case.image)
        self.label = torch.from_numpy(case.label).long()
        self.valid = torch.ones_like(self.label, dtype=torch.bool)
        self.strong = torch.arange(case.strong)
        self.weak = torch.arange(case.strong, len(case.image))
        memory = checkpoint.tensors["optimiser"]
        self.moments = {
            name: memory[f"main.{name}/exp_avg_sq"]
            / (1 - 0.999 ** float(memory[f"main.{name}/step"]))
            for name in self.params
        }
        halves = [self.gradient(self.strong[::2]), self.gradient(self.strong[1::2])]
        self.trusted = {n: (halves[0][n] + halves[1][n]) / 2 for n in self.params}
        self.halves = halves

    def losses_of(self, which: Tensor) -> Callable[..., Tensor]:
        """The training losses of some samples."""
        from labelmend.losses import dice_ce
        from labelmend.weighting.calls import losses_of

        return losses_of(self.network, dice_ce, self.batch(which))

    def batch(self, which: Tensor) -> Any:
        """Some samples as training sees them."""
        from labelmend.types import Batch

        return Batch(self.image[which], self.label[which], self.valid[which], which)

    def gradient(self, which: Tensor) -> dict[str, Tensor]:
        """The mean gradient of some samples."""
        from labelmend.weighting.gradients import mean_gradient_of

        return mean_gradient_of([self.losses_of(part) for part in which.split(16)], self.params)

    def judges(self) -> dict[str, np.ndarray]:
        """A score for every weak label by every judge; higher is better."""
        from labelmend.weighting.evidence import Findings, agreement, from_both
        from labelmend.weighting.fit import disagreement

        scores: dict[str, np.ndarray] = {}
        for which in CHOICES:
            for curvature in CURVATURES:
                scores[f"similarity, {which}, {curvature}"] = self.similarity(which, curvature)
        scores["cosine, all, identity"] = self.cosine()
        logits = self.logits()
        of = (logits, self.label[self.weak], self.valid[self.weak])
        loss = torch.cat(
            [self.losses_of(part)(self.params).detach() for part in self.weak.split(16)]
        )
        apart = disagreement(*of)
        last = {n: [half[n] for half in self.halves] for n in self.chosen("last")}
        alike = agreement(
            {n: g[0] for n, g in last.items()}, {n: g[1] for n, g in last.items()}, len(self.strong)
        )
        best = torch.from_numpy(scores["similarity, last, gauss_newton"])
        scores["minus loss"] = -loss.numpy()
        scores["fit"] = -apart.numpy()
        scores["both (fit; last, gauss_newton)"] = from_both(
            Findings(best, loss, apart, alike)
        ).numpy()
        confident = self.confident_learning(logits)
        if confident is not None:
            scores["confident learning"] = confident
        return scores

    def logits(self) -> Tensor:
        """What the network predicts for the weak images."""
        with torch.no_grad():
            return torch.cat([self.network(self.image[part]) for part in self.weak.split(16)])

    def chosen(self, which: str) -> dict[str, Tensor]:
        """The parameters of a choice."""
        from labelmend.weighting.choice import choose

        return choose(self.network, which, self.image[:1])

    def similarity(self, which: str, curvature: str) -> np.ndarray:
        """The similarity of every weak label's gradient."""
        from labelmend.weighting.gradients import exact

        params = self.chosen(which)
        direction = self.bend(curvature, params)({n: self.trusted[n] for n in params})
        parts = [exact(self.losses_of(part), params, direction)[1] for part in self.weak.split(16)]
        return torch.cat(parts).numpy()

    def bend(self, curvature: str, params: dict[str, Tensor]) -> Callable[..., Any]:
        """The curvature, of eight samples."""
        from labelmend.weighting import curvature as curvatures
        from labelmend.weighting.calls import gauss_newton_of

        few = torch.cat([self.strong[:4], self.weak[:4]])
        if curvature == "identity":
            return curvatures.identity
        if curvature == "adam":
            return curvatures.diagonal({n: self.moments[n] for n in params})
        if curvature == "fisher":
            return curvatures.empirical_fisher(
                [self.losses_of(one) for one in few.split(1)], params
            )
        product = gauss_newton_of(self.network, params, self.batch(few))
        return curvatures.conjugate_gradients(product)

    def cosine(self) -> np.ndarray:
        """The cosine of every weak label's gradient with the trusted one."""
        from labelmend.weighting.cosine import gradient_cosine

        parts = self.weak.split(1)
        found = [gradient_cosine(self.losses_of(p), self.params, self.trusted) for p in parts]
        return torch.cat(found).numpy()

    def confident_learning(self, logits: Tensor) -> np.ndarray | None:
        """The label quality of cleanlab's segmentation module, or None where it is missing."""
        try:
            from cleanlab.segmentation.rank import get_label_quality_scores
        except ImportError:
            return None
        scores, _ = get_label_quality_scores(
            self.label[self.weak].numpy(), logits.softmax(1).numpy(), verbose=False
        )
        return np.asarray(scores)


def run_one(scene: str, images: str, strong: int, seed: int) -> dict[str, dict[str, float]]:
    """AUROC of every judge at every stage, of one case."""
    torch.set_num_threads(1)
    case = plant(scene, images, strong, seed)
    with tempfile.TemporaryDirectory() as folder:
        found = learned(case, train(case, Path(folder) / "learned", seed))
        both = train(case, Path(folder) / "both", seed, signal="both")
        for stage, rows in learned(case, both, "both").items():
            found[stage] |= rows
        constant = train(case, Path(folder) / "constant", seed, method="constant")
        for stage, step in STAGES.items():
            for judge, score in Looks(case, constant, step).judges().items():
                found[stage][judge] = auroc(score, case.bad)
    return found


def learned(
    case: planted.Planted, run: Any, name: str = "the default"
) -> dict[str, dict[str, float]]:
    """What became of the weights of a training."""
    found: dict[str, dict[str, float]] = {}
    for stage, step in STAGES.items():
        weights, averages = weights_at(run, step)
        found[stage] = {
            f"weights, averaged over looks ({name})": auroc(averages, case.bad),
            f"weights ({name})": auroc(weights, case.bad),
            f"mean weight, good ({name})": float(weights[~case.bad].mean()),
            f"mean weight, bad ({name})": float(weights[case.bad].mean()),
        }
    return found


def table(results: dict[str, Any]) -> str:
    """AUROC, mean (least) over seeds, judges down and cases across, as Markdown."""
    columns = [(case, stage) for case in CASES for stage in STAGES]
    cells = [(c, s) for c, s in columns if any(key(*c, seed) in results for seed in SEEDS)]
    judges = dict.fromkeys(j for r in results.values() for stage in STAGES for j in r[stage])
    heads = [f"{c[1]}, {c[2]} strong, {c[0]}, {s}" for c, s in cells]
    lines = ["| judge | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for judge in judges:
        row = []
        for case, stage in cells:
            runs = [results[key(*case, seed)] for seed in SEEDS if key(*case, seed) in results]
            values = [run[stage][judge] for run in runs if judge in run[stage]]
            row.append(f"{statistics.mean(values):.3f} ({min(values):.2f})" if values else "–")
        lines.append(f"| {judge} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def key(scene: str, images: str, strong: int, seed: int) -> str:
    """The name under which a case's result is kept."""
    return f"{scene}/{images}/{strong}/{seed}"


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=None, help="only cases that hold these words")
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in SEEDS:
        for case in CASES:
            name = key(*case, seed)
            if name in results or not all(word in name for word in given.cases or []):
                continue
            results[name] = run_one(*case, seed)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            late = results[name]["late"]
            print(
                name,
                {
                    j: round(late[j], 3)
                    for j in ("weights, averaged over looks (the default)", "fit")
                },
                flush=True,
            )
    print(table(results))


if __name__ == "__main__":
    main()
