"""Put a trainer together for a run folder, from its settings, manifest and facts alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from labelmend.config import Settings
from labelmend.data.augment import Augmentation
from labelmend.data.dataset import SampleDataset
from labelmend.data.pairs import PairPlan
from labelmend.data.plan import Plan
from labelmend.data.prepare import Preparation
from labelmend.networks.build import build_network, check_output, couples_samples
from labelmend.networks.rescaled import rescaled
from labelmend.progress import Watcher
from labelmend.runs import Run
from labelmend.training.assembly import mixing, weighing
from labelmend.training.assembly import placing as placement
from labelmend.training.assembly.weighing import Schedule
from labelmend.training.endings import Ending
from labelmend.training.idle import IdleWatch
from labelmend.training.journal import Journal
from labelmend.training.judge import Case, Judge
from labelmend.training.mixed import MixedObjective
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.training.reweigh import Reweigher
from labelmend.training.schedule import Timetable, learning_rate_factor
from labelmend.training.trainer import Feed, Trainer
from labelmend.training.validation import Validator
from labelmend.training.warping import WARP, ExplainedAway
from labelmend.types import Batch, DataSet, DataSpec
from labelmend.weighting.evidence import AMONG_ALIKE

DEFAULT_STEPS = 2000


def assemble(fabric: Fabric, run: Run, watcher: Watcher) -> Trainer:
    """A trainer at step 0 for a run folder, from its settings, manifest and facts alone."""
    settings, data, facts = run.settings, run.data, run.facts
    predictors = mixing.networks(settings, network_maker(settings, data.spec, facts))
    bending = placement.networks(settings, data, facts)
    _warn_of_coupling(predictors["main"], watcher)
    samples = samples_of(settings, data, facts)
    plan = plan_of(settings, data)
    # From the facts: a run goes on as it began, whatever a later version would choose.
    schedule = Schedule(**facts["weighing"]) if "weighing" in facts else None
    ending = Ending(**facts["ending"]) if "ending" in facts else None
    timetable = _timetable(settings, plan, schedule, ending)
    plan = plan if ending is None else plan.ending(ending.strong_from)
    watcher.say(_summary(run, plan, timetable, predictors, fabric.device))
    warp = bending.get(WARP)
    steps = _steps(settings, plan)
    placing = placement.placing(settings, data, facts, steps, warp)
    if placing is not None:
        for line in placement.told(settings, data, placing):
            watcher.say(line)
    plain = Objective(weighing.loss(settings, data.spec, facts), placing)
    averages = mixing.averages(settings, predictors)
    objective = mixing.objective(settings, data.spec, facts, steps, plain)
    if isinstance(objective, MixedObjective) and averages is not None:
        objective = objective.taught_by(averages.networks, fabric.autocast)
    processes = Processes(fabric)
    reweigher = None
    if schedule is not None:
        watcher.say(_weight_summary(schedule, len(plan.weak)))
        judging = mixing.judging(settings, predictors)
        reweigher = _weigh(settings, samples, schedule, plain, judging, processes, facts)
    return Trainer(
        fabric,
        {**predictors, **bending},
        functools.partial(_optimiser, settings),
        objective,
        _feed(settings, samples, plan),
        timetable,
        weighing.table(settings, data, facts),
        run,
        watcher,
        _journal(settings, run, processes),
        reweigher,
        # The device and number type are known only after Fabric has set the network up.
        _validator(settings, samples, facts, processes, predictors["main"], fabric),
        averages,
        [*[IdleWatch()] * (len(predictors) > 1), *[ExplainedAway()] * len(bending)],
        None if placing is None else placing.table,
    )


def rehearse(
    world: int, settings: Settings, data: DataSet, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Make what settings could make impossible, and throw it away but for the schedule.

    Raises:
        SettingsError: for a network, a patch or a batch that cannot be made, a network that does
            not give scores for every position, or parts that do not go together.
    """
    network = network_maker(settings, data.spec, facts)(settings.seed)
    samples_of(settings, data, facts)
    image = torch.zeros(1, facts["in_channels"], *facts["patch"])
    check_output(settings.network.name, network.eval(), image, facts["out_channels"])
    plan = plan_of(settings, data)
    steps = _steps(settings, plan)
    warp = placement.networks(settings, data, facts).get(WARP)
    placing = placement.placing(settings, data, facts, steps, warp)
    if placing is not None:
        mixing.refuse_unplaced(settings)
    plain = Objective(weighing.loss(settings, data.spec, facts), placing)
    mixing.objective(settings, data.spec, facts, steps, plain)
    plan.check(0, world, settings.batch.accumulate)
    ending = _ending(settings, data, plan)
    schedule = _schedule(settings, data, plan, ending)
    if schedule is not None:
        weighing.refuse_far_draws(settings, schedule)
        weighing.search(settings, network, facts)
    weights = weighing.table(settings, data, facts)
    if settings.weighting.use != "loss":
        plan.batch(0, weights.drawn_by(0))
    found = {"weighing": schedule, "ending": ending}
    return {name: asdict(value) for name, value in found.items() if value is not None}


def _summary(
    run: Run,
    plan: Plan | PairPlan,
    timetable: Timetable,
    networks: Mapping[str, nn.Module],
    device: torch.device,
) -> str:
    """What is trained on what, in one line."""
    samples = run.data.samples
    people = {samples[i].annotator for i in plan.weak} - {""}
    by = f" (from {len(people)} annotators)" if len(people) > 1 else ""
    held_out = len(run.data.of("val", "strong")) or "none"
    patch = " × ".join(str(n) for n in run.facts["patch"])
    size = sum(parameter.numel() for parameter in networks["main"].parameters())
    two = "two networks " if len(networks) > 1 else "network "
    more = 0 if timetable.ending is None else timetable.ending.more
    steps = f"{'at most ' * (timetable.patience is not None)}{timetable.steps - more:,} steps"
    steps += f" and {more:,} for a second ending" * (more > 0)
    return (
        f"training on {len(plan.strong)} strong and {len(plan.weak)} weak labels{by}, "
        f"{held_out} held out; patch {patch}; {two}{run.settings.network.name}, "
        f"{size:,} parameters{' each' * (len(networks) > 1)}; {steps} on {device}"
    )


def network_maker(
    settings: Settings, spec: DataSpec, facts: Mapping[str, Any]
) -> Callable[[int], nn.Module]:
    """What makes a network from a seed for its initialisation."""

    def make(seed: int) -> nn.Module:
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
            seed=seed,
        )
        return rescaled(network, facts).train()

    return make


def _warn_of_coupling(network: nn.Module, watcher: Watcher) -> None:
    coupling = couples_samples(network)
    if coupling is not None:
        watcher.say(
            f"the network's layer {coupling} couples the samples of a batch: results depend on "
            "batch size and number of processes, and weights are judged in evaluation mode"
        )


def _optimiser(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    chosen = settings.optimiser
    return torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)


def samples_of(settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> SampleDataset:
    """The samples of a run as patches, prepared and changed as its settings and facts say."""
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


def plan_of(settings: Settings, data: DataSet) -> Plan | PairPlan:
    """Which samples, or pairs of them, every step of a run draws."""
    _, strong = weighing.trusted_and_trained(settings, data)
    weak = weighing.indices(data, "weak")
    share = settings.batch.strong_share
    if share == 1:
        weak = ()
    if share == 0:
        strong = ()
    single = Plan(strong, weak, settings.batch.size, share, settings.seed)
    return mixing.plan(settings, single)


def _feed(settings: Settings, samples: SampleDataset, plan: Plan | PairPlan) -> Feed:
    return Feed(
        samples,
        plan,
        parts=settings.batch.accumulate,
        workers=settings.input.workers,
        timeout=settings.input.timeout,
        weigh_loss=settings.weighting.use != "sampler",
        weigh_draws=settings.weighting.use != "loss",
    )


def _steps(settings: Settings, plan: Plan | PairPlan) -> int:
    if settings.epochs is None:
        return settings.steps or DEFAULT_STEPS
    patches = settings.epochs * settings.input.patches
    return max(1, math.ceil(patches * plan.steps_per_epoch))


def _ending(settings: Settings, data: DataSet, plan: Plan | PairPlan) -> Ending | None:
    """How training ends, or None where it goes on as it is; where both kinds of labels are seen."""
    chosen = settings.batch
    comparable = chosen.ending != "better" or bool(data.of("val", "strong"))
    if chosen.ending == "as_is" or not plan.strong or not plan.weak or not comparable:
        return None
    twice = chosen.ending == "better"
    return Ending.of(_steps(settings, plan), chosen.ending_share, twice=twice)


def _schedule(
    settings: Settings, data: DataSet, plan: Plan | PairPlan, ending: Ending | None
) -> Schedule | None:
    """When weights are learned, or None where nothing is to be learned or from nothing."""
    if not weighing.learned(settings, data):
        return None
    steps = _steps(settings, plan) if ending is None else ending.strong_from
    return weighing.schedule(settings, len(plan.weak), steps)


def _weight_summary(schedule: Schedule, weak: int) -> str:
    """How labels are judged, in one line."""
    wait = schedule.wait(weak)
    first = f", at first {schedule.first}" * (schedule.first > schedule.judged)
    return (
        f"weights: from step {schedule.start}, every {schedule.every} steps, {schedule.judged} of "
        f"{weak} weak labels{first}, so each once in {wait} steps; about {schedule.cost:.0%} more "
        "time"
    )


def _timetable(
    settings: Settings,
    plan: Plan | PairPlan,
    schedule: Schedule | None,
    ending: Ending | None,
) -> Timetable:
    steps = _steps(settings, plan)
    tenth = max(1, math.ceil(steps / 10))
    validate_every = settings.validate_every or tenth
    chosen = settings.optimiser
    warmup = min(chosen.warmup, tenth)

    def learning_rate(step: int) -> float:
        if ending is None or not ending.repeats(step):
            factor = learning_rate_factor(step, steps, warmup, chosen.schedule)
        else:  # from the full rate again, or what weak labels taught would hardly be unlearned
            place, length = step - ending.strong_from, ending.total(steps) - ending.strong_from
            factor = learning_rate_factor(place, length, 0, chosen.schedule)
        return chosen.learning_rate * factor

    return Timetable(
        steps=steps if ending is None else ending.total(steps),
        validate_every=validate_every,
        save_every=settings.save_every or validate_every,
        weigh_start=max(schedule.start, 1) if schedule else steps + 1,
        weigh_every=schedule.every if schedule else 1,
        patience=settings.patience,
        keep=settings.keep,
        learning_rate=learning_rate,
        clip=chosen.clip,
        seed=settings.seed,
        ending=ending,
    )


def _journal(settings: Settings, run: Run, processes: Processes) -> Journal:
    if not processes.first:
        return Journal(None, None, processes)
    events = run.folder("tensorboard") if settings.tensorboard else None
    return Journal(run, events, processes)


def _weigh(
    settings: Settings,
    samples: SampleDataset,
    schedule: Schedule,
    objective: Objective,
    networks: Mapping[str, nn.Module],
    processes: Processes,
    facts: Mapping[str, Any],
) -> Reweigher:
    """The weight step with a judge for each of these networks, the main one first."""
    trusted, _ = weighing.trusted_and_trained(settings, samples.data)
    weak = weighing.indices(samples.data, "weak")
    case = Case(
        objective,
        samples,
        strong=weighing.trusted_plan(settings, trusted),
        weak=weighing.turns(settings, weak, schedule),
        chunk=settings.batch.size,
        fit=weighing.fit(settings),
        by_class=settings.weighting.per == "class",
        processes=processes,
        move=functools.partial(_to_network, next(iter(networks.values()))),
        alike=settings.weighting.signal in AMONG_ALIKE,
    )
    judges = tuple(
        Judge(name, network, weighing.search(settings, network, facts), case)
        for name, network in networks.items()
    )
    return Reweigher(judges, weighing.score(settings, schedule.rate))


def _validator(
    settings: Settings,
    samples: SampleDataset,
    facts: Mapping[str, Any],
    processes: Processes,
    network: nn.Module,
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
        functools.partial(_to_network, network),
        precision=fabric.autocast,
    )


def _to_network(network: nn.Module, thing: Batch | Tensor) -> Any:
    parameter = next(network.parameters())
    if isinstance(thing, Tensor):
        return thing.to(parameter)
    return thing.to(parameter.device, parameter.dtype)
