"""The bytes that a compiled program moves, from texts in the form of XLA's, with the bytes counted by hand."""

import pytest

from keras_adaptive.bench.traffic import collective_bytes, hbm_bytes

pytestmark = [pytest.mark.quick, pytest.mark.on("torch")]

PROGRAM = """HloModule step

%sliced (a: f32[16,8,128], b: f32[8,128]) -> f32[8,128] {{
  %a = f32[16,8,128]{{2,1,0}} parameter(0)
  %b = f32[8,128]{{1,0}} parameter(1)
  %part = f32[1,8,128]{{2,1,0}} slice(%a), slice={{[3:4], [0:8], [0:128]}}
  %flat = f32[8,128]{{1,0}} bitcast(%part)
  {other}ROOT %sum = f32[8,128]{{1,0}} add(%flat, %b)
}}

%placed (c: f32[16,8,128], d: f32[1,8,128], e: s32[]) -> f32[16,8,128] {{
  %c = f32[16,8,128]{{2,1,0}} parameter(0)
  %d = f32[1,8,128]{{2,1,0}} parameter(1)
  %e = s32[] parameter(2)
  %twice = f32[1,8,128]{{2,1,0}} add(%d, %d)
  ROOT %new = f32[16,8,128]{{2,1,0}} dynamic-update-slice(%c, %twice, %e, %e, %e)
}}

ENTRY %main (p: f32[16,8,128], q: f32[8,128], r: f32[1,8,128], s: s32[]) -> f32[16,8,128] {{
  %p = f32[16,8,128]{{2,1,0}} parameter(0)
  %q = f32[8,128]{{1,0:S(1)}} parameter(1)
  %r = f32[1,8,128]{{2,1,0}} parameter(2)
  %s = s32[] parameter(3)
  {instruction}
}}
"""
MATRIX = 4 * 8 * 128
SLICED = "ROOT %x = f32[8,128]{1,0} fusion(%p, %q), kind=kLoop, calls=%sliced"


@pytest.mark.parametrize(
    ("instruction", "other", "moved"),
    [
        # It reads one of sixteen matrices and writes one; the second operand is on the chip.
        (SLICED, "", 2 * MATRIX),
        # Another use of the parameter needs all of it.
        (SLICED, "%all = f32[16,8,128]{2,1,0} negate(%a)\n  ", 17 * MATRIX),
        # It reads one matrix, and writes it into sixteen that stay where they are. The index has four bytes.
        (
            "ROOT %x = f32[16,8,128]{2,1,0} fusion(%p, %r, %s), kind=kLoop, calls=%placed",
            "",
            2 * MATRIX + 4,
        ),
        ("ROOT %x = f32[16,8,128]{2,1,0} add(%p, %p)", "", 48 * MATRIX),
        # Between devices, too, bytes leave the memory and come into it.
        ("ROOT %x = f32[8,8,128]{2,1,0} all-gather(%r), channel_id=1, dimensions={0}", "", 9 * MATRIX),
    ],
)
def test_bytes_are_counted_as_by_hand(instruction, other, moved):
    assert hbm_bytes(PROGRAM.format(instruction=instruction, other=other)) == moved


def test_a_transfer_in_several_computations_counts_once():
    gather = "%x{} = f32[8,8,128]{{2,1,0}} all-gather(%r), channel_id={}, dimensions={{0}}"
    lines = [gather.format(0, 1), gather.format(1, 1), gather.format(2, 2)]
    lines.append("%y = (f32[8]{0}, f32[64]{0}) all-gather-start(%z), channel_id=3, dimensions={0}")
    lines.append("ROOT %w = f32[64]{0} all-to-all(%v), channel_id=4, dimensions={0}")
    assert collective_bytes("\n".join(f"  {line}" for line in lines)) == {
        "all-gather": 2 * 8 * MATRIX + 4 * 64,
        "all-to-all": 4 * 64,
    }
