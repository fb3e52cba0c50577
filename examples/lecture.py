"""Measures each claim of the lecture "Optimizers for Deep Neural Networks", over several seeds, with a verdict.

    python examples/lecture.py
    python examples/lecture.py --claims 1 3 --seeds 3
    KERAS_BACKEND=jax python examples/lecture.py --quick --strategy mirrored --replicas 2

A claim is reproduced if the criterion in its class (lecture_steps.py, lecture_data.py, lecture_images.py) holds for the
measured numbers. The script prints a line of progress for each optimizer, then the table and one line of results; it
draws a picture.
"""

import time
from typing import Any, NamedTuple

import marked
import strategies
from options import Parser, picture_file, refuse, seeds_of


class Finding(NamedTuple):
    """A claim and its number, what was measured, a summary of that, and whether the criterion holds."""

    number: int
    claim: Any
    numbers: dict
    found: str
    reproduced: bool

    @property
    def verdict(self):
        return "reproduced" if self.reproduced else "not reproduced at this size"


def measure(number, lab):
    """The finding on one claim."""
    from lecture_claims import CLAIMS

    claim = CLAIMS[number]
    numbers = claim.measure(lab)
    return Finding(number, claim, numbers, *claim.judge(numbers))


def table(findings, lab):
    """Markdown: the verdicts, and below them how they were measured."""
    import keras

    from keras_adaptive.core import tables

    lines = [(f"{each.number}", each.claim.says, each.found, f"**{each.verdict}**") for each in findings]
    rows = tables.markdown(("", "The lecture says", "Found", "Verdict"), lines)
    how = f"Written by `examples/lecture.py`: mean ± standard deviation over {len(lab.seeds)} seeds, from "
    how += f"{lab.seeds[0]} on; two η to the decade; backend {keras.backend.backend()}, strategy "
    how += f"{lab.devices.strategy}, replicas {lab.devices.replicas}."
    how += " Only a quick try, which decides nothing." if lab.quick else ""
    rows += ["", how, ""]
    for each in findings:
        rows.append(f"{each.number}. Measured: {each.claim.measured}. Reproduced if: {each.claim.criterion}.")
    return "\n".join(rows)


def draw(findings, quick=False):
    """A figure with a row of panels for each claim."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 3.3 * len(findings)), layout="constrained")
    rows = figure.subfigures(len(findings), 1, squeeze=False)[:, 0]
    for row, each in zip(rows, findings, strict=True):
        each.claim.draw(row, each.numbers)
        verdict = "only a quick try" if quick else each.verdict
        row.suptitle(f"{each.number}. {each.claim.says}: {verdict}", fontsize="medium")
    return figure


def main():
    parser = Parser(__doc__.split("\n")[0], gymnasium="cartpole", mnist1d="examples")
    text = "numbers of claims, 1 to 6 (default: all)"
    parser.option("--claims", "N", text, nargs="+", type=int, choices=range(1, 7))
    parser.measured("lecture")
    arguments = parser.parse()
    if arguments.readme and arguments.claims:
        refuse(f"--readme needs all claims. Received: --claims {' '.join(map(str, arguments.claims))}")
    if arguments.readme:
        marked.check(arguments.readme, "lecture")
    seeds = seeds_of(arguments)
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    import report
    from lecture_claims import CLAIMS
    from lecture_lab import Lab

    devices = strategies.start(arguments)
    if 32 % devices.replicas:
        refuse(f"--replicas must divide 32, the smallest batch here. Received: {devices.replicas}")
    lab = Lab(devices, seeds, arguments.quick)
    begin = time.perf_counter()
    findings = []
    for number in sorted(set(arguments.claims or CLAIMS)):
        if devices.is_chief:
            print(f"{number}. {CLAIMS[number].says}", flush=True)
        findings.append(measure(number, lab))
    seconds = time.perf_counter() - begin
    if not devices.is_chief:
        return

    block = table(findings, lab)
    print(block)
    if arguments.readme:
        marked.write(arguments.readme, "lecture", block)
    picture = picture_file(arguments)
    draw(findings, lab.quick).savefig(picture, dpi=80)
    print(f"the measurements: {picture}")
    missed = ",".join(str(each.number) for each in findings if not each.reproduced) or "none"
    facts = {"claims": len(findings), "reproduced": sum(each.reproduced for each in findings)}
    facts |= {"not_reproduced": missed} | report.where(devices)
    report.print_facts(facts | {"seeds": len(lab.seeds), "seconds": f"{seconds:.1f}"})


if __name__ == "__main__":
    main()
