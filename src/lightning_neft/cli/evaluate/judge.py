"""The kind of evaluation `--judge`: a language model judges answers against those of a baseline, in both orders."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.answer_files import show_win_rate
from lightning_neft.cli.evaluate.files import results_folder, write_records
from lightning_neft.cli.process import Terminated
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.evaluation.judge.contest import Contest, Outcome
    from lightning_neft.evaluation.judge.ledger import Ledger, Price
    from lightning_neft.evaluation.judge.pace import Pace
    from lightning_neft.evaluation.judge.panel import Forecast
    from lightning_neft.evaluation.judge.request import Judge

__all__ = ["JudgeKind"]

_LOCAL = "local:"
_VERDICTS = "verdicts.sqlite"


class JudgeKind:
    """`evaluate --judge`: win rates of outputs files against a baseline."""

    takes_config = False

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--judge", required=True, metavar="NAME")
        parser.add_argument("--final-judge", metavar="NAME")
        parser.add_argument("--outputs", type=Path, nargs="+", action="extend", required=True, metavar="FILE")
        parser.add_argument("--baseline", type=Path, required=True, metavar="FILE")
        parser.add_argument("--judge-url", metavar="URL")
        parser.add_argument("--judge-key-env", metavar="VARIABLE")
        parser.add_argument("--verdicts", type=Path, metavar="FILE")
        parser.add_argument("--workers", type=int, default=4, metavar="N")
        parser.add_argument("--requests-per-minute", type=float, metavar="N")
        parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
        parser.add_argument("--attempts", type=int, default=8, metavar="N")
        for name in ("--price-input", "--price-output", "--final-price-input", "--final-price-output"):
            parser.add_argument(name, type=float, metavar="MONEY")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--trust-remote-code", action="store_true")

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return a win rate for each outputs file, then that of the best one by the final judge if there is one.

        Raises:
            ConfigError: An option is wrong, or there is no key.
            DataError: A file is not an outputs file, or has other instructions.
            ModelError: A judge cannot be loaded or asked, or gives no verdict at all.
            KeyboardInterrupt, Terminated: It was interrupted; the verdicts so far are kept.
        """
        # Importing torch takes seconds.
        from lightning_neft.evaluation.judge.contest import read_contest
        from lightning_neft.evaluation.judge.ledger import Ledger, Price
        from lightning_neft.evaluation.judge.pace import Pace
        from lightning_neft.evaluation.judge.panel import best_of

        _check(options)
        contests = [read_contest(path, options.baseline) for path in options.outputs]
        pace = Pace(options.requests_per_minute)
        judges = [_open_judge(name, options, pace) for name in (options.judge, options.final_judge) if name]
        folder = results_folder(options.out)
        ledger = Ledger(options.verdicts or folder / _VERDICTS)
        with closing(ledger), _kept_in(ledger):
            first = _judge_all(contests, judges[0], ledger, Price(options.price_input, options.price_output))
            outcomes = [(outcome, "first" if len(judges) > 1 else "only") for outcome in first]
            results = [_result(*one, options) for one in outcomes]
            if len(judges) > 1:
                price = Price(options.final_price_input, options.final_price_output)
                (final,) = _judge_all([best_of(first).contest], judges[1], ledger, price)
                outcomes.append((final, "final"))
                results.append(_result(final, "final", options))
        names = [(f"{outcome.contest.label}-{outcome.judge}", "annotations") for outcome, _ in outcomes]
        write_records(folder, names, [outcome.records() for outcome, _ in outcomes], "preference")
        return results

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as a table."""
        if result["stage"] == "final":
            console.print(Text("the best outputs file, by the final judge", style="bold"))
        show_win_rate(result, console)
        if result["n_same"]:
            console.print(Text(f"{result['n_same']} pairs of identical answers count as draws and were not judged"))
        if (share := result["first_position_share"]) is not None:
            console.print(
                Text(
                    f"{result['n_inconsistent']} pairs whose verdict changed with the order count as draws; the answer "
                    f"shown first won {100 * share:.1f} % of the time"
                )
            )
        if result["n_inconsistent"] == result["n_total"] - result["n_same"] > 0:
            warning = "every verdict changed with the order: this judge cannot tell these answers apart"
            console.print(Text(warning, style="yellow"))
        if result["n_malformed"]:
            console.print(Text(f"{result['n_malformed']} requests without a verdict", style="yellow"))
        paid, total = result["usage_this_run"], result["usage"]
        cost = "" if paid["cost"] is None else f", cost {paid['cost']:.4f} (all verdicts {total['cost']:.4f})"
        console.print(
            Text(
                f"sent in this run: {paid['requests']} of {total['requests']} requests, {paid['input_tokens']} tokens "
                f"read, {paid['output_tokens']} written{cost}"
            )
        )
        if total["uncounted"]:
            console.print(Text(f"{total['uncounted']} replies without a token count", style="yellow"))


@contextmanager
def _kept_in(ledger: Ledger) -> Iterator[None]:
    """Report where the verdicts are if the user stops the run."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)(
            f"stopped; the verdicts so far are kept in {ledger.path}, repeat the command to resume"
        ) from None


def _check(options: Namespace) -> None:
    """Check the options before anything is paid for."""
    if not options.judge:
        raise ConfigError("--judge is empty; give the name of a model, or local:FOLDER")
    for name in (options.judge, options.final_judge or ""):
        # Neither control characters nor bytes that are not UTF-8.
        if not name.isprintable():
            raise ConfigError(f"the name of a judge must be one line of text, got {name!r}")
    for name in ("timeout", "requests_per_minute"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} must be greater than 0, got {value!r}")
    for start in ("", "final_"):
        option = f"--{start}price".replace("_", "-")
        prices = [getattr(options, f"{start}price_{side}") for side in ("input", "output")]
        for side, price in zip(("input", "output"), prices, strict=True):
            if price is not None and not 0 <= price < math.inf:
                raise ConfigError(f"{option}-{side} must be 0 or more, per million tokens, got {price!r}")
        if prices.count(None) == 1:
            raise ConfigError(f"give both {option}-input and {option}-output, or neither")
    count = len(options.outputs) + bool(options.final_judge)
    if count > 1 and options.out is not None and options.out.suffix == ".json":
        raise ConfigError(f"--out {options.out}: there will be {count} results; give a folder")


def _open_judge(name: str, options: Namespace, pace: Pace) -> Judge:
    if name.startswith(_LOCAL):
        from lightning_neft.cli.process import quiet
        from lightning_neft.evaluation.judge.local import LocalJudge

        with quiet():
            return LocalJudge(name.removeprefix(_LOCAL), options.trust_remote_code)
    from lightning_neft.evaluation.judge.endpoint import (
        DEFAULT_KEY_VARIABLE,
        DEFAULT_URL,
        EndpointJudge,
        check_url,
        read_key,
    )
    from lightning_neft.evaluation.judge.pace import Backoff

    url = options.judge_url or DEFAULT_URL
    check_url(url)
    return EndpointJudge(
        name,
        url=url,
        key=read_key(options.judge_key_env, url),
        key_variable=options.judge_key_env or DEFAULT_KEY_VARIABLE,
        timeout=options.timeout,
        workers=options.workers,
        backoff=Backoff(attempts=options.attempts, seed=options.seed),
        pace=pace,
    )


def _judge_all(contests: list[Contest], judge: Judge, ledger: Ledger, price: Price) -> list[Outcome]:
    from lightning_neft.evaluation.judge.panel import Panel, judge_all

    # Standard output may be reserved for the JSON object.
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def begin(forecast: Forecast) -> None:
            _show_forecast(forecast, console)
            progress.update(task, total=forecast.usage.requests)

        task = progress.add_task("judging", total=None)
        return judge_all(
            contests, Panel(judge, ledger), price, on_forecast=begin, on_done=lambda: progress.advance(task)
        )


def _show_forecast(forecast: Forecast, console: Console) -> None:
    usage = forecast.usage
    line = f"judge {forecast.judge}: {forecast.pairs} pairs in both orders, {usage.requests} requests to send"
    if forecast.kept:
        line += f", {forecast.kept} verdicts from earlier runs"
    if forecast.is_paid and usage.requests:
        cost = "unknown (give --price-input and --price-output)" if usage.cost is None else f"about {usage.cost:.2f}"
        line += f"; about {usage.input_tokens} tokens to read, {usage.output_tokens} to write, cost {cost}"
    console.print(Text(line), soft_wrap=True)


def _result(outcome: Outcome, stage: str, options: Namespace) -> dict[str, Any]:
    start = "final_" if stage == "final" else ""
    settings = {
        "judge_url": options.judge_url,
        "price_input": getattr(options, f"{start}price_input"),
        "price_output": getattr(options, f"{start}price_output"),
    }
    return outcome.result(stage, settings, options.seed)
