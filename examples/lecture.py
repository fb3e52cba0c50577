"""Measures each claim of the lecture "Optimizers for Deep Neural Networks", over several seeds, with a verdict.

    python examples/lecture.py
    python examples/lecture.py --claims 1 3 --seeds 3
    KERAS_BACKEND=jax python examples/lecture.py --quick --strategy mirrored --replicas 2

A claim is reproduced if a criterion holds that stands in its class, in lecture_steps.py or lecture_data.py: it is
computed from the measured numbers. A line of progress for each optimizer; then the table, a picture and one line.
"""

import time
from pathlib import Path

import strategies
from options import Parser, count, refuse

BLOCK = "<!-- lecture -->", "<!-- /lecture -->"


def verdict(reproduced):
    return "reproduced" if reproduced else "not reproduced at this size"


def table(findings, how):
    """Markdown: the verdicts, and below what was measured. `findings` are (number, claim, found, reproduced)."""
    rows = ["| | The lecture says | Found | Verdict |", "|---|---|---|---|"]
    for number, claim, found, reproduced in findings:
        rows.append(f"| {number} | {claim.says} | {found.replace('|', chr(92) + '|')} | **{verdict(reproduced)}** |")
    rows += ["", f"{how}", ""]
    for number, claim, *_ in findings:
        rows.append(f"{number}. Measured: {claim.measured}. Reproduced if: {claim.criterion}.")
    return "\n".join(rows)


def replaced(text, block):
    """The text with that block between its two marks."""
    before, _, rest = text.partition(BLOCK[0])
    _, _, after = rest.partition(BLOCK[1])
    return f"{before}{BLOCK[0]}\n{block}\n{BLOCK[1]}{after}"


def check_readme(path):
    if not path.is_file() or not all(mark in path.read_text("utf-8") for mark in BLOCK):
        refuse(f"--readme must be a file with the lines {BLOCK[0]} and {BLOCK[1]}. Received: {path}")


def draw(measured):
    """A figure with a row of panels for each claim; `measured` are (number, claim, numbers, reproduced)."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 3.3 * len(measured)), layout="constrained")
    rows = figure.subfigures(len(measured), 1, squeeze=False)[:, 0]
    for row, (number, claim, numbers, reproduced) in zip(rows, measured, strict=True):
        claim.draw(row, numbers)
        row.suptitle(f"{number}. {claim.says}: {verdict(reproduced)}", fontsize="medium")
    return figure


def main():
    parser = Parser(__doc__.split("\n")[0], "lecture.png", gymnasium="cartpole")
    text = "of the six (default: all)"
    parser.option("--claims", "N", text, nargs="+", type=int, choices=range(1, 7))
    parser.option("--seeds", "N", "repetitions, with seeds from --seed on", type=count, default=5)
    text = "only try whether everything runs, in a few steps that decide nothing"
    parser.add_argument("--quick", action="store_true", help=text)
    parser.option("--readme", "FILE.md", f"put the table between its lines {BLOCK[0]} and {BLOCK[1]}", type=Path)
    arguments = parser.parse()
    if arguments.readme and arguments.claims:
        refuse(f"--readme needs all claims. Received: --claims {' '.join(map(str, arguments.claims))}")
    if arguments.readme:
        check_readme(arguments.readme)
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    import report
    from lecture_claims import CLAIMS
    from lecture_lab import Lab

    devices = strategies.start(arguments)
    if 32 % devices.replicas:
        refuse(f"--replicas must divide 32, the smallest batch here. Received: {devices.replicas}")
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    lab = Lab(devices, seeds, arguments.quick)
    begin = time.perf_counter()
    measured = []
    for number in sorted(set(arguments.claims or CLAIMS)):
        claim = CLAIMS[number]
        if devices.is_chief:
            print(f"{number}. {claim.says}", flush=True)
        numbers = claim.measure(lab)
        measured.append((number, claim, numbers, *claim.judge(numbers)))
    seconds = time.perf_counter() - begin
    if not devices.is_chief:
        return

    facts = report.where(devices)
    how = f"Mean ± standard deviation over {len(seeds)} seeds, from {seeds[0]} on; a grid of η has two to the decade. "
    how += f"Written by `examples/lecture.py` on the backend {facts['backend']}, strategy {devices.strategy}, "
    how += f"replicas {devices.replicas}, in {seconds:.0f} seconds."
    how += " Only a quick try, which decides nothing." if arguments.quick else ""
    block = table([(number, claim, found, holds) for number, claim, _, found, holds in measured], how)
    print(block)
    if arguments.readme:
        text = arguments.readme.read_text("utf-8")
        arguments.readme.write_text(replaced(text, block), "utf-8")
    figure = draw([(number, claim, numbers, holds) for number, claim, numbers, _, holds in measured])
    figure.savefig(arguments.output, dpi=80)
    print(f"the measurements: {arguments.output}")
    held = [number for number, *_, holds in measured if holds]
    missed = [number for number, *_, holds in measured if not holds]
    report.print_facts(
        {"claims": len(measured), "reproduced": len(held), "not_reproduced": ",".join(map(str, missed)) or "none"}
        | facts
        | {"seeds": len(seeds), "seconds": f"{seconds:.1f}"}
    )


if __name__ == "__main__":
    main()
