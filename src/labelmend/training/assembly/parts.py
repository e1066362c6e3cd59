"""Put a trainer together for a run folder, from its settings, manifest and facts alone."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from labelmend.config import Settings
from labelmend.data.augment import Augmentation
from labelmend.data.dataset import SampleDataset
from labelmend.data.prepare import Preparation
from labelmend.data.sampling import Plan
from labelmend.losses import make_loss
from labelmend.networks.build import build_network, couples_samples
from labelmend.progress import Silent, Watcher
from labelmend.runs import Run
from labelmend.training.assembly.begin import loss_name
from labelmend.training.journal import Journal
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.training.reweigh import Reweigher
from labelmend.training.schedule import Timetable, learning_rate_factor
from labelmend.training.trainer import Feed, Trainer
from labelmend.training.validation import Validator
from labelmend.types import Batch, DataSet, DataSpec
from labelmend.weighting.curvature import identity
from labelmend.weighting.evidence import evidence
from labelmend.weighting.weights import WeightTable, update_rule

DEFAULT_STEPS = 2000


def assemble(fabric: Fabric, run: Run, watcher: Watcher) -> Trainer:
    """A trainer at step 0 for a run folder, from its settings, manifest and facts alone."""
    settings, data, facts = run.settings, run.data, run.facts
    network = _network(settings, data.spec, facts, watcher)
    samples = _samples(settings, data, facts)
    plan = _plan(settings, data)
    timetable = _timetable(settings, plan)
    watcher.say(_summary(run, plan, timetable, network, fabric.device))
    # The device and number type are known only after Fabric has set the network up.
    move = functools.partial(_to_network, network)
    objective = Objective(make_loss(loss_name(settings, data.spec), data.spec.task))
    strong = torch.tensor([s.quality == "strong" for s in data.samples])
    processes = Processes(fabric)
    return Trainer(
        fabric,
        {"main": network},
        functools.partial(_optimiser, settings),
        objective,
        _feed(settings, samples, plan),
        timetable,
        WeightTable.start(strong, settings.weighting.initial),
        run,
        watcher,
        _journal(settings, run, processes),
        _reweigher(settings, samples, plan, objective, network, processes, move),
        _validator(settings, samples, facts, processes, move, fabric),
    )


def rehearse(world: int, settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> None:
    """Make what settings could make impossible, and throw it away.

    Raises:
        SettingsError: for a network, a patch or a batch that cannot be made.
    """
    _network(settings, data.spec, facts, Silent())
    _samples(settings, data, facts)
    _plan(settings, data).check(0, world, settings.batch.accumulate)


def _summary(
    run: Run, plan: Plan, timetable: Timetable, network: nn.Module, device: torch.device
) -> str:
    """What is trained on what, in one line."""
    samples = run.data.samples
    people = {samples[i].annotator for i in plan.weak} - {""}
    by = f" (from {len(people)} annotators)" if len(people) > 1 else ""
    held_out = len(run.data.of("val", "strong")) or "none"
    patch = " × ".join(str(n) for n in run.facts["patch"])
    size = sum(parameter.numel() for parameter in network.parameters())
    steps = f"{'at most ' * (timetable.patience is not None)}{timetable.steps:,} steps"
    return (
        f"training on {len(plan.strong)} strong and {len(plan.weak)} weak labels{by}, "
        f"{held_out} held out; patch {patch}; network {run.settings.network.name}, "
        f"{size:,} parameters; {steps} on {device}"
    )


def _network(
    settings: Settings, spec: DataSpec, facts: Mapping[str, Any], watcher: Watcher
) -> nn.Module:
    chosen = settings.network
    network = build_network(
        chosen.name,
        spec.dims,
        facts["in_channels"],
        facts["out_channels"],
        width=chosen.width,
        depth=chosen.depth,
        dropout=chosen.dropout,
        arguments=chosen.arguments,
        seed=settings.seed,
    )
    coupling = couples_samples(network)
    if coupling is not None:
        watcher.say(
            f"the network's layer {coupling} couples the samples of a batch: results depend on "
            "batch size and number of processes, and weights are judged in evaluation mode"
        )
    return network.train()


def _optimiser(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    chosen = settings.optimiser
    return torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)


def _samples(settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> SampleDataset:
    return SampleDataset(
        data,
        Preparation.from_json(facts["preparation"]),
        tuple(facts["patch"]),
        _augmentation(settings, data.spec),
        seed=settings.seed,
        cache_mb=settings.input.cache_mb,
        foreground=settings.input.foreground,
    )


def _augmentation(settings: Settings, spec: DataSpec) -> Augmentation:
    chosen = settings.augment.model_dump()
    if chosen["flip"] is None:
        # A heart beat or a song played backwards is another thing; an image mirrored mostly is not.
        chosen["flip"] = 0.0 if spec.dims == 1 else 0.5
    return Augmentation(**chosen)


def _plan(settings: Settings, data: DataSet) -> Plan:
    strong, weak = _indices(data, "strong"), _indices(data, "weak")
    share = settings.batch.strong_share
    if share == 1:
        weak = ()
    if share == 0:
        strong = ()
    return Plan(strong, weak, settings.batch.size, share, settings.seed)


def _indices(data: DataSet, quality: str) -> tuple[int, ...]:
    return tuple(
        i for i, s in enumerate(data.samples) if s.split == "train" and s.quality == quality
    )


def _feed(settings: Settings, samples: SampleDataset, plan: Plan) -> Feed:
    return Feed(
        samples,
        plan,
        parts=settings.batch.accumulate,
        workers=settings.input.workers,
        timeout=settings.input.timeout,
    )


def _timetable(settings: Settings, plan: Plan) -> Timetable:
    steps = settings.steps or DEFAULT_STEPS
    if settings.epochs is not None:
        patches = settings.epochs * settings.input.patches
        steps = max(1, math.ceil(patches * plan.steps_per_epoch))
    tenth = max(1, math.ceil(steps / 10))
    validate_every = settings.validate_every or tenth
    chosen = settings.optimiser
    warmup = min(chosen.warmup, tenth)

    def learning_rate(step: int) -> float:
        factor = learning_rate_factor(step, steps, warmup, chosen.schedule)
        return chosen.learning_rate * factor

    return Timetable(
        steps=steps,
        validate_every=validate_every,
        save_every=settings.save_every or validate_every,
        weigh_start=max(settings.weighting.start, 1),
        weigh_every=settings.weighting.every,
        patience=settings.patience,
        keep=settings.keep,
        learning_rate=learning_rate,
        clip=chosen.clip,
        seed=settings.seed,
    )


def _journal(settings: Settings, run: Run, processes: Processes) -> Journal:
    if not processes.first:
        return Journal(None, None)
    return Journal(run, run.folder("tensorboard") if settings.tensorboard else None)


def _reweigher(
    settings: Settings,
    samples: SampleDataset,
    plan: Plan,
    objective: Objective,
    network: nn.Module,
    processes: Processes,
    move: Any,
) -> Reweigher | None:
    chosen = settings.weighting
    if chosen.method == "constant" or not plan.weak or not plan.strong:
        return None
    seed = settings.seed
    return Reweigher(
        objective,
        network,
        samples,
        strong=Plan(plan.strong, (), chosen.strong_samples, 1.0, _derived(seed, "trusted")),
        weak=Plan((), plan.weak, _judged(settings, len(plan.weak)), 0.0, _derived(seed, "judged")),
        chunk=settings.batch.size,
        evidence=evidence(chosen.signal),
        rule=update_rule(chosen.update),
        rate=chosen.rate,
        curvature=identity,
        processes=processes,
        move=move,
    )


def _judged(settings: Settings, weak: int) -> int:
    """How many weak samples a weight step looks at.

    Judging a sample costs about as much as training on it: three forward passes in forward mode,
    against one forward and one backward pass, which is twice as dear.
    """
    chosen = settings.weighting
    trained = chosen.every * settings.batch.size
    affordable = max(trained // 4 - chosen.strong_samples, settings.batch.size)
    return min(chosen.weak_samples or affordable, weak)


def _validator(
    settings: Settings,
    samples: SampleDataset,
    facts: Mapping[str, Any],
    processes: Processes,
    move: Any,
    fabric: Fabric,
) -> Validator | None:
    held_out = tuple(
        i for i, s in enumerate(samples.data.samples) if s.split == "val" and s.quality == "strong"
    )
    if not held_out:
        return None
    return Validator(
        samples,
        held_out,
        samples.data.spec,
        tuple(facts["patch"]),
        settings.input.overlap,
        facts["multiple"],
        processes,
        move,
        precision=fabric.autocast,
    )


def _derived(seed: int, purpose: str) -> int:
    """Another seed, so that the weight step's draws are not the training's."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "little") // 2


def _to_network(network: nn.Module, thing: Batch | Tensor) -> Any:
    parameter = next(network.parameters())
    if isinstance(thing, Tensor):
        return thing.to(parameter)
    return thing.to(parameter.device, parameter.dtype)
