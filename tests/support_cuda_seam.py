"""What every implementation of the CUDA seam does alike: one set of tests, for devices there and not there."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from support_cuda_kernels import ADD_PTX
from vedette_engines.cuda.base import CudaError

SIZE = 256


def close(*things: Any) -> None:
    """Close all, twice, as every one allows."""
    for thing in things:
        thing.close()
        thing.close()


class SeamSuite:
    """Whoever derives gives the fixture `device`, attached."""

    def test_facts_tell_what_the_device_is(self, device: Any) -> None:
        facts = device.facts
        assert facts.name
        assert facts.capability >= (7, 5)
        assert 0 < device.free_bytes() <= facts.memory_bytes

    def test_bytes_go_up_across_and_down_through_offsets(self, device: Any) -> None:
        stream, given, taken = device.stream(), device.pin(SIZE), device.pin(SIZE)
        one, other = device.allocate(SIZE * 2), device.allocate(SIZE * 2)
        given.array[:] = np.arange(SIZE)
        stream.upload(one, given, 100, target_at=60, source_at=20)
        stream.copy(other, one, 50, target_at=7, source_at=70)
        stream.download(taken, other, 50, target_at=5, source_at=7)
        stream.synchronize()
        assert taken.array[5:55].tolist() == list(range(30, 80))
        close(given, taken, one, other, stream)

    def test_a_kernel_runs_between_the_copies_around_it(self, device: Any) -> None:
        stream, pinned, memory = device.stream(), device.pin(SIZE), device.allocate(SIZE)
        module = device.load(ADD_PTX)
        kernel = module.kernel("add")
        assert kernel.name == "add"
        pinned.array[:] = np.arange(SIZE)
        stream.upload(memory, pinned, SIZE)
        stream.launch(kernel, (SIZE // 64,), (64,), (memory, np.int32(3)))
        stream.download(pinned, memory, SIZE)
        stream.synchronize()
        assert pinned.array.tolist() == [(value + 3) % 256 for value in range(SIZE)]
        del kernel
        close(pinned, memory, module, stream)

    def test_an_event_is_done_when_all_before_it_is(self, device: Any) -> None:
        stream, event, pinned, memory = device.stream(), device.event(), device.pin(SIZE), device.allocate(SIZE)
        assert event.done()
        pinned.array[:] = 9
        stream.upload(memory, pinned, SIZE)
        stream.record(event)
        event.synchronize()
        assert event.done()
        close(pinned, memory, event, stream)

    def test_an_event_orders_two_streams(self, device: Any) -> None:
        first, second, event = device.stream(), device.stream(-1), device.event()
        given, taken, memory = device.pin(SIZE), device.pin(SIZE), device.allocate(SIZE)
        given.array[:] = 5
        first.upload(memory, given, SIZE)
        first.record(event)
        second.wait(event)
        second.download(taken, memory, SIZE)
        second.synchronize()
        assert set(taken.array.tolist()) == {5}
        close(given, taken, memory, event, first, second)

    def test_two_marks_tell_the_time_between_them(self, device: Any) -> None:
        stream, earlier, later = device.stream(), device.event(timing=True), device.event(timing=True)
        stream.record(earlier)
        stream.record(later)
        later.synchronize()
        assert later.milliseconds_since(earlier) >= 0.0
        close(earlier, later, stream)

    def test_a_stream_has_a_handle_for_other_libraries(self, device: Any) -> None:
        stream = device.stream()
        assert isinstance(stream.handle, int)
        assert stream.handle > 0
        stream.close()

    def test_a_kernel_that_is_not_there_is_told(self, device: Any) -> None:
        module = device.load(ADD_PTX)
        with pytest.raises(CudaError, match="CUDA_ERROR_NOT_FOUND while looking for the kernel none"):
            module.kernel("none")
        module.close()

    def test_too_much_memory_is_refused_and_the_device_goes_on(self, device: Any) -> None:
        with pytest.raises(CudaError, match="CUDA_ERROR_OUT_OF_MEMORY") as caught:
            device.allocate(1 << 50)
        assert not caught.value.sticky
        memory = device.allocate(SIZE)
        memory.close()

    def test_a_graph_does_again_what_was_captured_or_there_are_none(self, device: Any) -> None:
        stream = device.stream()
        if not device.facts.features.graphs:
            with pytest.raises(CudaError, match="CUDA_ERROR_NOT_SUPPORTED while beginning a capture"):
                stream.begin_capture()
            stream.close()
            return
        pinned, memory, module = device.pin(SIZE), device.allocate(SIZE), device.load(ADD_PTX)
        kernel = module.kernel("add")
        pinned.array[:] = 0
        stream.upload(memory, pinned, SIZE)
        stream.synchronize()
        stream.begin_capture()
        stream.launch(kernel, (SIZE // 64,), (64,), (memory, np.int32(3)))
        graph = stream.end_capture()
        for _ in range(4):
            stream.launch_graph(graph)
        stream.download(pinned, memory, SIZE)
        stream.synchronize()
        assert set(pinned.array.tolist()) == {12}
        del kernel
        close(graph, pinned, memory, module, stream)

    def test_memory_of_others_can_be_registered_or_that_is_refused(self, device: Any) -> None:
        ours = np.arange(4096, dtype=np.uint8)
        if not device.facts.features.registration:
            with pytest.raises(CudaError, match="CUDA_ERROR_NOT_SUPPORTED while registering"):
                device.register(ours)
            return
        stream, memory, taken = device.stream(), device.allocate(4096), device.pin(4096)
        shared = device.register(ours)
        stream.upload(memory, shared, 4096)
        stream.download(taken, memory, 4096)
        stream.synchronize()
        assert np.array_equal(taken.array, ours)
        close(shared, memory, taken, stream)

    def test_another_thread_works_when_it_is_attached(self, device: Any) -> None:
        found: list[list[int]] = []

        def work() -> None:
            with device.attached(), device.attached():
                stream, pinned, memory = device.stream(), device.pin(SIZE), device.allocate(SIZE)
                pinned.array[:] = 8
                stream.upload(memory, pinned, SIZE)
                stream.download(pinned, memory, SIZE)
                stream.synchronize()
                found.append(sorted(set(pinned.array.tolist())))
                close(pinned, memory, stream)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [[8]]

    def test_an_error_inside_leaves_the_thread_as_it_was(self, device: Any) -> None:
        with pytest.raises(ValueError, match="ours"), device.attached():
            raise ValueError("ours")
        memory = device.allocate(SIZE)
        memory.close()
