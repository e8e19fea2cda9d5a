"""The kernels that a device that is not there has: NumPy functions under the kernels' names, and what they take."""

from __future__ import annotations

from typing import Any

from vedette_engines.cuda.letterbox_twin import simulated_letterbox
from vedette_engines.cuda.simulated_stream import SimulatedKernel

# `memory[i] += value`, for every i; a GPU gets this, the others find it by its name.
ADD_PTX = b""".version 6.3
.target sm_75
.address_size 64
.visible .entry add(.param .u64 add_param_0, .param .u32 add_param_1)
{
	.reg .b16 %rs<4>;
	.reg .b32 %r<5>;
	.reg .b64 %rd<5>;
	ld.param.u64 %rd1, [add_param_0];
	cvta.to.global.u64 %rd2, %rd1;
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %ntid.x;
	mov.u32 %r3, %tid.x;
	mad.lo.s32 %r4, %r1, %r2, %r3;
	cvt.u64.u32 %rd3, %r4;
	add.s64 %rd4, %rd2, %rd3;
	ld.global.u8 %rs1, [%rd4];
	ld.param.u8 %rs2, [add_param_1];
	add.s16 %rs3, %rs1, %rs2;
	st.global.u8 [%rd4], %rs3;
	ret;
}
"""


def add(memory: Any, value: Any) -> None:
    memory += memory.dtype.type(value)


KERNELS = {
    "add": SimulatedKernel("add", lambda _: 0.0, add, reads=(0,), writes=(0,)),
    "letterbox": simulated_letterbox(),
}
# How C lays the arguments out: pointers (P), whole numbers of 64 (q) and 32 bits (i).
SIGNATURES = {"add": "Pi", "letterbox": "PqPqPqPq" + "i" * 19}
