"""The loop: take a step, judge the labels every τ steps, check, save."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.data.dataset import SampleDataset
from labelmend.data.pairs import PairPlan
from labelmend.data.plan import Plan
from labelmend.data.sampling import load
from labelmend.errors import LabelmendError, NonFiniteError, WorkerError
from labelmend.progress import Watcher
from labelmend.runs import Checkpoint, Run
from labelmend.training.averages import Averages
from labelmend.training.endings import Aside
from labelmend.training.journal import Journal
from labelmend.training.learned import Learned
from labelmend.training.ledger import weight_columns, weight_rows
from labelmend.training.meters import step_figures
from labelmend.training.objective import Goal, Parcel, Terms, scales
from labelmend.training.places import PlaceTable, remember
from labelmend.training.processes import Processes, kept_local
from labelmend.training.reweigh import Reweigher
from labelmend.training.schedule import Timetable
from labelmend.training.signals import StopRequest, stopped
from labelmend.training.state import Progress, Remembers
from labelmend.training.validation import Validator
from labelmend.types import Batch
from labelmend.weighting.weights import WeightTable


@dataclass(frozen=True, slots=True)
class Feed:
    """What is loaded: the samples, in which order, in how many parts, by how many workers.

    ``weigh_loss`` and ``weigh_draws`` say where weights count: both at once counts them twice.
    """

    samples: SampleDataset
    plan: Plan | PairPlan
    parts: int
    workers: int
    timeout: float
    weigh_loss: bool = True
    weigh_draws: bool = False


Notice = Callable[[int, Mapping[str, float]], str | None]
"""Looks at a step's figures and says something to the person who trains, or nothing."""


class _StopSeen(Exception):  # noqa: N818 - no error: it unwinds a task that a signal cut short
    """A signal came in the middle of a task that can be done again."""


class Trainer:
    """One training, from wherever it stands to its end. It knows no method by name.

    Fabric sets the networks up; ``main`` is the one that is validated and used. ``table``,
    ``places`` and ``progress`` are the whole memory besides parameters and optimiser.
    """

    def __init__(
        self,
        fabric: Fabric,
        networks: Mapping[str, nn.Module],
        make_optimiser: Callable[[list[nn.Parameter]], Optimizer],
        objective: Goal,
        feed: Feed,
        timetable: Timetable,
        table: WeightTable,
        run: Run,
        watcher: Watcher,
        journal: Journal,
        reweigher: Reweigher | None = None,
        validator: Validator | None = None,
        averages: Averages | None = None,
        notices: Sequence[Notice] = (),
        places: PlaceTable | None = None,
    ) -> None:
        self.fabric = fabric
        self.plain = dict(networks)
        self.networks = {name: fabric.setup_module(net) for name, net in networks.items()}
        parameters = [p for net in networks.values() for p in net.parameters()]
        self.optimiser = make_optimiser(parameters)
        self.objective = objective
        self.feed = feed
        self.timetable = timetable
        self.table = table
        self.run = run
        self.watcher = watcher
        self.journal = journal
        self.reweigher = reweigher
        self.validator = validator
        self.averages = averages
        if averages is not None:
            averages.join()
        self.notices = notices
        self.places = places
        self._learned = Learned(self.plain, self.optimiser, averages)
        self._aside = Aside(self._learned)
        parts = {"weights": table, "weighing": reweigher, "places": places, "aside": self._aside}
        self._parts: dict[str, Remembers] = {k: v for k, v in parts.items() if v is not None}
        self.processes = Processes(fabric)
        self.progress = Progress()
        self._signals = StopRequest()
        self._said: set[str] = set()

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Go on until the last step.

        Raises:
            Stopped: after a SIGINT or SIGTERM; everything is saved.
            NonFiniteError: on NaN or infinity, naming the samples; the last checkpoint stays.
        """
        self.watcher.start(self.timetable.steps, self.progress.step)
        with self._signals:
            try:
                self._go_on()
            finally:
                self.watcher.finish()
                self.journal.close()

    def _go_on(self) -> None:
        self._do_pending()
        todo = range(self.progress.step, self.timetable.steps)
        weigh, validate = self.reweigher is not None, self.validator is not None
        with closing(self._loaded(todo)) as loaded:
            for step in todo:
                if self.progress.done:
                    break
                self._take_step(step, loaded)
                self.progress.step = step + 1
                self.progress.pending = self.timetable.due(step + 1, weigh=weigh, validate=validate)
                self._do_pending()
                self._stop_if_asked()

    def _loaded(self, todo: range) -> Generator[list[Batch]]:
        return load(
            self.feed.samples,
            self.feed.plan,
            steps=todo,
            rank=self.processes.rank,
            world=self.processes.world,
            parts=self.feed.parts,
            workers=self.feed.workers,
            timeout=self.feed.timeout,
            weights=self._drawn_by if self.feed.weigh_draws else None,
        )

    def _drawn_by(self, step: int) -> Tensor:
        """The weights that a step is drawn by: those before the latest weight step at its time.

        One weight step late, because loading draws ahead; a step's draws are then the same
        however far ahead they are made, and after a restart.
        """
        return self.table.drawn_by(max(self.timetable.weighings_by(step) - 1, 0))

    # ------------------------------------------------------------------ one step

    def _take_step(self, step: int, loaded: Iterator[list[Batch]]) -> None:
        began = time.perf_counter()
        # Dropout and the like are a function of (seed, step, rank): resuming needs no RNG state.
        torch.manual_seed(_step_seed(self.timetable.seed, step, self.processes.rank))
        parts = self._next(loaded)
        if self.timetable.turns(step):  # now: a stop while loading must not save it half-way
            self._aside.turn(self.progress)
        rate = self.timetable.learning_rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seen: list[tuple[Parcel, Terms]] = []
        for number, batch in enumerate(parts):
            parcel = self._parcel(batch, step)
            with kept_local(self.fabric, self.networks, enabled=number < len(parts) - 1):
                terms = self._forward(parcel)
                # Processes average their gradients; the objective is a sum over all of them.
                self.fabric.backward(terms.total * self.processes.world)
            seen.append((parcel, terms))
        norm = self._clip(seen)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.averages is not None:
            self.averages.follow(step + 1)
        if self.places is not None:
            remember(self.places, [terms.found for _, terms in seen], self.processes)
        self._note_step(step + 1, seen, norm, rate, time.perf_counter() - began)

    def _next(self, loaded: Iterator[list[Batch]]) -> list[Batch]:
        parts: list[Batch] = []
        error: LabelmendError | None = None
        try:
            parts = next(loaded)
        except LabelmendError as caught:
            # A signal to the whole group also ends loading processes that have yet to start.
            stopping = isinstance(caught, WorkerError) and self._signals.number()
            error = None if stopping else caught
        self.processes.agree(error)
        if self.processes.largest(not parts):
            self._stop_if_asked()
        return parts

    def _parcel(self, batch: Batch, step: int) -> Parcel:
        strong = ~self.table.learns[batch.index]
        scale = scales(strong, self._counts(step))
        device = self.fabric.device
        weight = self.table.used(batch.index).to(device)
        if not self.feed.weigh_loss:
            weight = torch.ones_like(weight)
        kind = next(self.plain["main"].parameters()).dtype
        return Parcel(batch.to(device, kind), weight, scale.to(device), step, strong.to(device))

    def _counts(self, step: int) -> Mapping[str, int]:
        """Samples of each kind in a step."""
        weights = self._drawn_by(step) if self.feed.weigh_draws else None
        return self.feed.plan.counts_at(step, weights)

    def _forward(self, parcel: Parcel) -> Terms:
        terms = self.objective(self.networks, parcel)
        error = None
        if not (torch.isfinite(terms.losses).all() and torch.isfinite(terms.total)):
            bad = parcel.batch.index[~torch.isfinite(terms.losses)]
            error = self._not_finite("the loss", bad if len(bad) else parcel.batch.index, parcel)
        self.processes.agree(error)
        return terms

    def _clip(self, seen: list[tuple[Parcel, Terms]]) -> float:
        largest = self.timetable.clip if self.timetable.clip is not None else float("inf")
        norms = [
            nn.utils.clip_grad_norm_(network.parameters(), largest)
            for network in self.networks.values()
        ]
        norm = math.hypot(*(n.item() for n in norms))
        if not math.isfinite(norm):
            index = torch.cat([parcel.batch.index for parcel, _ in seen])
            self.processes.agree(self._not_finite("the gradient", index, seen[0][0]))
        return norm

    def _not_finite(self, what: str, index: Tensor, parcel: Parcel) -> NonFiniteError:
        samples = self.feed.samples.data.samples
        names = ", ".join(samples[i].id for i in index.tolist())
        return NonFiniteError(
            f"{what} is NaN or infinite at step {parcel.step + 1}; samples: {names}; "
            "lower optimiser.learning_rate, set optimiser.clip, or look at these files"
        )

    def _note_step(
        self,
        step: int,
        seen: list[tuple[Parcel, Terms]],
        norm: float,
        rate: float,
        seconds: float,
    ) -> None:
        figures = step_figures(seen, self._counts(step - 1), self.processes)
        self.journal.log(
            {"step": step, "kind": "train", **figures}
            | {"learning_rate": rate, "gradient_norm": norm, "seconds": round(seconds, 4)}
        )
        self.watcher.step(step, figures)
        for notice in self.notices:
            if (text := notice(step, figures)) is not None:
                self.watcher.say(text)

    # ------------------------------------------------------------------ between steps

    def _do_pending(self) -> None:
        tasks = {
            "weigh": self._weigh,
            "fork": self._aside.fork,
            "validate": self._validate,
            "choose": self._choose,
            "save": self.save,
        }
        while self.progress.pending:
            task = self.progress.pending[0]
            # Saving is the end of the list: what it saves must not ask to be saved again.
            if task == "save":
                self.progress.pending = []
            try:
                tasks[task]()
            except _StopSeen:
                self._stop_if_asked()
            self.progress.pending = self.progress.pending[1:]

    def _weigh(self) -> None:
        if self.reweigher is None:
            return
        step = self.progress.step
        number = self.timetable.weighings_by(step) - 1
        done = self.reweigher(self.table, number, step, self.optimiser, self._check_stop)
        for note in done.notes:
            kind, _, _ = note.partition(":")  # what follows are figures, new at every step
            if kind not in self._said:
                self._said.add(kind)
                self.watcher.say(f"weights: {note}")
        said = {"note": "; ".join(done.notes)} if done.notes else {}
        self.journal.log({"step": step, "kind": "weights", **done.figures, **said})
        self.watcher.step(step, {"weight": done.figures["mean_weight"]})
        data = self.feed.samples.data
        columns = weight_columns(self.table, data.samples, data.spec.classes, step)
        self.journal.log_weights(step, columns)

    def _validate(self) -> None:
        if self.validator is None:
            return
        figures = self.validator(self.plain["main"], self._check_stop)
        progress = self.progress
        known = {name: _known(value) for name, value in figures.items()}
        self.journal.log({"step": progress.step, "kind": "val", **known})
        progress.figure = main = known.get(self.validator.main)
        if main is not None and (progress.best is None or main > progress.best):
            progress.best, progress.best_step, progress.stale = main, progress.step, 0
            if "save" not in progress.pending:
                progress.pending.append("save")
        else:
            progress.stale += 1
        shown = "  ".join(f"{n} {value:.3f}" for n, value in known.items() if value is not None)
        self.watcher.say(f"step {progress.step}: held-out {shown}")
        patience = self.timetable.patience
        if patience is not None and progress.stale >= patience:
            progress.done = True
            self.watcher.say(f"no gain in {patience} validations: ending at step {progress.step}")
            progress.pending = [*progress.pending[:1], "choose", "save"]

    def _choose(self) -> None:
        if self.validator is not None and self.timetable.turned(self.progress.step):
            figures, said = self._aside.choose(
                self.progress, self.validator.main, self.table.mean_of_weak
            )
            self.journal.log({"step": self.progress.step, "kind": "ending", **figures})
            self.watcher.say(said)

    def save(self) -> None:
        """Write a checkpoint; all processes learn whether it worked."""
        with self.processes.together():
            if self.processes.first:
                self.run.save(self._checkpoint(), keep=self.timetable.keep)
                self._write_tables()

    def _checkpoint(self) -> Checkpoint:
        tensors = self._learned.tensors()
        for group, part in self._parts.items():
            if state := part.state():
                tensors[group] = dict(state)
        return Checkpoint(self.progress.step, tensors, self.progress.to_json())

    def _write_tables(self) -> None:
        data = self.feed.samples.data
        self.run.write_weights(weight_rows(self.table, data.samples, data.spec.classes))
        if self.places is not None:
            self.run.write_places(self.places.rows(data.samples))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        self._learned.restore(checkpoint.tensors)
        for group, part in self._parts.items():
            part.restore(checkpoint.tensors.get(group, {}))
        self.progress = Progress(**checkpoint.state)
        with self.processes.together():
            if self.processes.first:  # a kill right after the checkpoint leaves older tables
                self._write_tables()

    # ------------------------------------------------------------------ stopping and telling

    def _check_stop(self) -> None:
        if self.processes.largest(self._signals.number()):
            raise _StopSeen

    def _stop_if_asked(self) -> None:
        number = self.processes.largest(self._signals.number())
        if number:
            self.save()
            raise stopped(number, self.progress.step, str(self.run.path))


def _known(value: float) -> float | None:
    """A figure that does not exist, such as the Dice of a class that never occurs, is no number."""
    return value if math.isfinite(value) else None


def _step_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True) & (2**63 - 1)
