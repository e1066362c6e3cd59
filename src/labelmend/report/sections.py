"""The parts of the page that need no image: the verdict, charts, tables and lists."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from labelmend.report import charts
from labelmend.report.document import chart, say, section
from labelmend.report.gather import Records, kept_part
from labelmend.report.markup import Child, Html, element, join, table
from labelmend.report.phrases import Sentence, count, duration, figure, metric_name
from labelmend.report.story import Course, Judgement, Story
from labelmend.report.weight_words import near_ends
from labelmend.report.words import tell
from labelmend.runs import Run

_MARKS = {"good": "✓", "warning": "!", "unknown": "?", "fact": "·"}
_SPOKEN = {"good": "Good: ", "warning": "Warning: ", "unknown": "Not known: ", "fact": None}


def make_verdict(story: Story) -> Html:
    """What happened, in words: a paragraph to read, then all else by weight."""
    sentences = tell(story)
    lead: list[Child] = []
    for one in sentences:
        if one.lead:
            warned = "warned" if one.tone == "warning" else None
            lead += [element("span", one.text, class_=warned), " "]
    order = {"warning": 0, "unknown": 1, "good": 2, "fact": 3}
    rest = sorted((s for s in sentences if not s.lead), key=lambda s: order[s.tone])
    return element(
        "section",
        element("h2", "What happened"),
        element("p", *lead, class_="lead"),
        _figures(story),
        element("ul", *(_finding(one) for one in rest), class_="findings") if rest else None,
        id="verdict",
        aria_label="What happened",
    )


def _finding(one: Sentence) -> Html:
    spoken = _SPOKEN[one.tone]
    return element(
        "li",
        element("span", _MARKS[one.tone], class_="mark", aria_hidden="true"),
        element(
            "span",
            element("span", spoken, class_="unseen") if spoken else None,
            element("b", one.topic),
            " ",
            one.text,
        ),
        class_=one.tone,
    )


def _figures(story: Story) -> Html:
    data, course, weighing = story.data, story.course, story.weighing
    held = course.held
    cards: list[tuple[str, str, str]] = []
    if len(held):
        of = count(data.held_out.get("val", 0), "label")
        best = f"best {figure(course.metric, held.best[1])}, {of}"
        cards.append((f"held-out {metric_name(course.metric)}", _value(course), best))
    else:
        cards.append((f"held-out {metric_name(course.metric)}", "–", "not known"))
    for one in story.judgements:
        value = one.mean.get(course.metric)
        if one.split == "test" and value is not None:
            under = f"{count(one.samples, 'label')}, step {one.step:,}"
            cards.append(
                (f"test {metric_name(course.metric)}", figure(course.metric, value), under)
            )
    cards.append(("labels", f"{data.strong} + {data.weak}", "strong + weak"))
    if weighing.rounds and weighing.weights:
        highest = weighing.method.highest
        low, high = near_ends(weighing.weights, highest)
        mean = f"{statistics.fmean(weighing.weights):.2f}"
        cards.append(("mean weight", mean, f"{low} near 0, {high} near {highest:g}"))
    time = duration(course.seconds) if course.seconds else "time not recorded"
    cards.append(("steps", f"{course.steps:,}", time))
    items = [
        element("div", element("dt", name), element("dd", value), element("dd", under))
        for name, value, under in cards
    ]
    return element("dl", *items, class_="figures")


def _value(course: Course) -> str:
    return figure(course.metric, course.held.last)


def make_training(records: Records) -> Html:
    """Curves of the losses, the learning rate and the held-out metric."""
    course = records.story.course
    if not len(course.loss):
        return section("training", "Training", say("No step has been recorded yet."))
    first = records.paths.steps[1] if len(records.paths.steps) > 1 else None
    drawn = [
        chart(
            charts.draw_losses(course, first),
            "Loss at every step (light) and smoothed over a twelfth of the training (dark); "
            "below, the learning rate. " + _losses_in_words(course),
        )
    ]
    if len(course.held):
        step, best = course.held.best
        drawn.append(
            chart(
                charts.draw_held_out(course),
                f"{metric_name(course.metric)} on whole held-out images, "
                f"{count(len(course.held), 'time')} measured: first "
                f"{figure(course.metric, course.held.values[0])}, last {_value(course)}, best "
                f"{figure(course.metric, best)} at step {step:,}.",
            )
        )
    else:
        drawn.append(say("There is no held-out figure to draw."))
    return section("training", "Training", element("div", *drawn, class_="charts"))


def _losses_in_words(course: Course) -> str:
    parts = []
    for name, curve in (("strong", course.loss_strong), ("weak", course.loss_weak)):
        if len(curve):
            smooth = charts.smoothed(curve)[1]
            tenth = max(len(smooth) // 10, 1)
            first, last = smooth[:tenth].mean(), smooth[-tenth:].mean()
            parts.append(f"{name} {first:#.3g} → {last:#.3g}")
    return f"First to last tenth: {', '.join(parts)}." if parts else ""


def make_evaluation(run: Run, judgements: Iterable[Judgement]) -> Html:
    """Figures on strong labels, by class; the last validation where nothing was evaluated."""
    tables = [part for one in judgements for part in _judgement(one)]
    if not tables:
        kept = kept_part(run)
        last = [record for record in run.metrics("val") if kept(record["step"])][-1:]
        tables = [_validation(record) for record in last]
        tables.append(say("Not evaluated per class yet: labelmend evaluate RUN does that."))
    return section("evaluation", "Evaluation", *tables)


def _judgement(one: Judgement) -> list[Html]:
    names = list(one.mean)
    rows: list[list[Child]] = [
        [name, *(_number(row.get(metric)) for metric in names)]
        for name, row in one.per_class.items()
    ]
    if len(rows) > 1:
        rows.append(["mean", *(_number(one.mean[metric]) for metric in names)])
    caption = f"{one.split}: {count(one.samples, 'strong label')}, step {one.step:,}"
    figures = table(["class", *map(metric_name, names)], rows, caption)
    return [figures, *(say(f"{text[:1].upper()}{text[1:]}.") for text in one.sentences)]


def _validation(record: Mapping[str, Any]) -> Html:
    numbers = {k: v for k, v in record.items() if k not in ("step", "kind")}
    caption = f"last validation during training, step {record['step']:,}"
    cells: list[Child] = [_number(value) for value in numbers.values()]
    return table(["", *map(metric_name, numbers)], [["mean", *cells]], caption)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def make_settings(run: Run) -> Html:
    """What was set, what it ran on, what was left out."""
    changed = _changed(run.settings.model_dump(), type(run.settings)().model_dump())
    rows: list[list[Child]] = [[key, now, default] for key, now, default in changed]
    text = table(["setting", "in this run", "default"], rows, "Changed from the defaults")
    return section(
        "settings",
        "Settings and environment",
        text if rows else say("Every setting had its default.", "fact"),
        element(
            "details",
            element("summary", "All settings (TOML)"),
            element("pre", run.settings.to_toml()),
        ),
        element("details", element("summary", "Environment"), _environment(run)),
        _left_out(run),
    )


def _changed(
    now: Mapping[str, Any], default: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, str, str]]:
    found = []
    for key, value in now.items():
        if isinstance(value, Mapping) and isinstance(default.get(key), Mapping) and default[key]:
            found += _changed(value, default[key], f"{prefix}{key}.")
        elif value != default.get(key):
            found.append((prefix + key, _plain(value), _plain(default.get(key))))
    return found


def _plain(value: object) -> str:
    return "not set" if value is None else str(value)


def _environment(run: Run) -> Html:
    flat: dict[str, object] = {"data": run.data.root, "run": str(run.path)}
    for key, value in run.environment.items():
        flat |= dict(value) if isinstance(value, Mapping) else {key: value}
    facts = {key: value for key, value in run.facts.items() if key != "preparation"}
    if "given_weights" in facts:
        facts["given_weights"] = f"of {count(len(facts['given_weights']), 'label')}"
    for key, value in facts.items():
        flat[key] = _inline(value) if isinstance(value, Mapping) else value
    rows: list[list[Child]] = [[key, _plain(value)] for key, value in flat.items()]
    return table(["what", "value"], rows, "Where and on what the run began")


def _inline(values: Mapping[str, Any]) -> str:
    figures = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
    return ", ".join(f"{key} {value}" for key, value in figures.items())


def _left_out(run: Run) -> Html | None:
    if not run.problems:
        return None
    rows: list[list[Child]] = [[one.file, one.message] for one in run.problems]
    title = element("h3", f"{count(len(rows), 'file')} left out", id="left-out")
    return join(title, table(["file", "why"], rows, "Files that could not be used"))
