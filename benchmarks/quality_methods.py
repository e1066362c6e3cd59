"""What the quality suite compares: what people do with doubtful labels, and what labelmend does.

Every method gets the same data, network, number of steps, batches and learning rate; what was not
tuned for one was not tuned for any. Those that train twice say so by their time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import quality_data
from quality_data import Scene

if TYPE_CHECKING:
    from labelmend.runs import Run

EQUAL = {"method": "constant", "initial": 1.0}
MIXED = {"mixing": {"use": True}, "weighting": {"signal": "both"}}


@dataclass(frozen=True)
class Job:
    """One training of the suite."""

    scene: Scene
    data: Path
    work: Path
    seed: int

    def fit(
        self,
        *layers: dict[str, Any],
        data: Path | None = None,
        preset: str = "weighted",
        name: str = "run",
    ) -> Run:
        """Train; later layers of settings win."""
        from labelmend.config import Settings
        from labelmend.config import preset as named
        from labelmend.training.assembly import fit

        fixed = {
            "seed": self.seed,
            "save_every": 10**6,
            "validate_every": 10**6,
            "batch": {"ending": "as_is"},
        }
        settings = Settings.make(named(preset), self.scene.settings, fixed, *layers)
        return fit(data or self.data, self.work / name, settings=settings)


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        words: what it does.
        train: does it; None where a scene is not for it.
        tier: 1 is run first, everywhere; then 2, and so on.
        only: whether a scene is for it.
        peer: what it stands for of other people's work.
    """

    words: str
    train: Callable[[Job], Run]
    tier: int = 2
    only: Callable[[Scene], bool] = field(default=lambda scene: True)
    peer: str = ""


def _out_of_place(scene: Scene) -> bool:
    return scene.window is not None


def _shifted(scene: Scene) -> bool:
    return _out_of_place(scene) and scene.transform == "shift"


def _found_by_search(scene: Scene) -> bool:
    return _out_of_place(scene) and scene.transform != "warp"


def _was_moved(scene: Scene) -> bool:
    return scene.moved


def settings(*layers: dict[str, Any], preset: str = "weighted") -> Callable[[Job], Run]:
    """Training by settings alone."""
    return lambda job: job.fit(*layers, preset=preset)


def weighting(**chosen: Any) -> Callable[[Job], Run]:
    """The default but for how labels are weighed."""
    return settings({"weighting": chosen})


def aligned(**layers: Any) -> Callable[[Job], Run]:
    """Labels put in place while training, by the scene's transform in the scene's window."""

    def train(job: Job) -> Run:
        chosen = {"transform": job.scene.transform, "window": job.scene.window}
        return job.fit({"align": chosen}, layers)

    return train


def everything(job: Job) -> Run:
    """All of ours: weights, two endings, and labels put in place where they may be out of it."""
    endings = {"batch": {"ending": "better"}}
    return aligned(**endings)(job) if job.scene.window else job.fit(endings)


def _least_loss(job: Job) -> Run:
    """The minimum of the loss over shifts, from the first step, without gate, prior or memory."""
    free = {"score": "cross_entropy", "start": 0, "confidence": 0.01, "margin": 0.0, "keep": 0.0}
    far = {"prior": 1e6, "near": float(job.scene.window or 1)}
    return aligned(align={**free, **far, "window": job.scene.window}, weighting=EQUAL)(job)


def _all_strong(job: Job) -> Run:
    data = quality_data.all_strong(job.data)
    return job.fit(data=data, preset="strong_only")


def _in_place(job: Job) -> Run:
    return job.fit(data=quality_data.in_place(job.data))


def _oracle(job: Job) -> Run:
    file = quality_data.oracle_weights(job.data, job.work / "oracle.csv")
    return job.fit({"weighting": {"method": "constant", "given": str(file)}})


def _fixed_once(job: Job) -> Run:
    """Strong labels alone say where weak ones belong; these are moved, and all are trained on."""
    from labelmend.inference.fix import fix
    from labelmend.inference.predictor import load

    chosen = {"align": {"window": job.scene.window}}
    first = job.fit(chosen, preset="strong_only", name="first")
    out = fix(load(first), job.work / "fixed", align=job.scene.transform).out
    data = job.work / "data-fixed"
    shutil.copytree(job.data, data)
    shutil.copytree(out, data, dirs_exist_ok=True, ignore=shutil.ignore_patterns("fixed.csv"))
    return job.fit({"weighting": EQUAL}, data=data)


METHODS: dict[str, Method] = {
    "strong only": Method("weak labels are never seen", settings(preset="strong_only"), 1),
    "pooled": Method("all labels alike", settings(preset="pooled"), 1),
    "pooled, then strong": Method(
        "all labels alike, the last 30 % of steps strong ones only",
        settings({"batch": {"ending": "strong", "ending_share": 0.3}}, preset="pooled"),
        1,
    ),
    "equal": Method("half of every batch strong, every label counts 1", weighting(**EQUAL), 1),
    "weights": Method("half of every batch strong, learned weights", weighting(), 1),
    "weights, both": Method(
        "learned weights, every label held against all others",
        weighting(signal="both"),
        1,
    ),
    "in place": Method(
        "labels put in place, every label counts 1",
        aligned(weighting=EQUAL),
        1,
        _out_of_place,
    ),
    "both": Method("labels put in place, and weighed", aligned(), 1, _out_of_place),
    "ours": Method("all of ours, and the better of two endings", everything, 1),
    "all strong": Method("the truth of every label: the ceiling", _all_strong, 1),
    "true place": Method(
        "weights, and labels where they were before they were moved", _in_place, 2, _was_moved
    ),
    "weak only": Method(
        "strong labels are never seen",
        settings({"batch": {"strong_share": 0.0}, "weighting": EQUAL}),
    ),
    "constant 0.25": Method(
        "every weak label counts 0.25", weighting(method="constant", initial=0.25)
    ),
    "constant 0.5": Method(
        "every weak label counts 0.5", weighting(method="constant", initial=0.5)
    ),
    "weights by loss": Method("weights by each label's loss alone", weighting(signal="loss")),
    "shuffled": Method("each label gets another one's weight", weighting(shuffled=True)),
    "oracle": Method("grossly wrong labels are known and left out", _oracle),
    "least loss": Method(
        "the least loss over all shifts", _least_loss, 2, _shifted, "as HighRes-net does"
    ),
    "fixed once": Method(
        "put in place once, by a network of strong labels", _fixed_once, 2, _found_by_search
    ),
    "mixed": Method("weights, both; mixed images", settings(MIXED), 3),
    "two models": Method(
        "weights, both; mixed images, two models",
        settings(MIXED, {"dual": {"use": True}}),
        3,
    ),
}
"""Every method by its name."""
