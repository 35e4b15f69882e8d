"""A fake GPU: PyCUDA's and edgepose._cuda's interfaces over memory and streams of this process.

It is as strict as a real one where that has caught people: nothing works without a context on the thread's stack, a
stream runs nothing before it is synchronised, memory is freed only where the context is current, host memory has a
device address only if it is mapped.
"""

import sys
import threading
import types

import numpy as np

import edgepose


class CudaError(Exception):
    """pycuda.driver.Error."""


class HostMemory:
    """The base of PyCUDA's page-locked arrays."""

    def __init__(self, gpu, shape, dtype, is_mapped):
        array = np.full(shape, np.nan, dtype)
        self.gpu, self.is_mapped, self.__array_interface__ = gpu, is_mapped, array.__array_interface__
        self.address = gpu._allocate(array.reshape(-1).view(np.uint8))

    def get_device_pointer(self):
        if not self.is_mapped:
            raise CudaError("cuMemHostGetDevicePointer failed: the memory is not mapped")
        return self.address

    def __del__(self):
        self.gpu._free(self.address)


class FakeGpu:
    """One GPU: capability, name and cuda may be set before it is used. contexts: the depth of each thread's stack."""

    def __init__(self, name="Fake GPU 1000", capability=(8, 7), cuda=(12, 6, 0), count=1):
        self.gpu_name, self.capability, self.cuda_version, self.count = name, capability, cuda, count
        self.memory, self.streams, self.local = {}, {}, threading.local()
        self.next_address, self.leaked, self.launches, self.contexts_retained = 1 << 20, 0, 0, 0

    # For the fake TensorRT.

    def depth(self):
        """The number of contexts this thread has pushed and not popped."""
        return getattr(self.local, "depth", 0)

    def need_context(self):
        if not self.depth():
            raise CudaError("no currently active context?")

    def view(self, address, shape):
        """The float32 array at a device address. Raises CudaError where nothing of that size was allocated there."""
        array = self.memory.get(address)
        if array is None or array.nbytes < 4 * np.prod(shape):
            raise CudaError(f"an illegal memory access: {address}")
        return array.view(np.float32)[:np.prod(shape)].reshape(shape)

    def put(self, handle, work):
        """Work for a stream: done when the stream is synchronised, or only noted while it is captured."""
        self.need_context()
        if handle == 0:
            raise CudaError("the default stream: TensorRT would synchronise the device")
        stream = self.streams[handle]
        (stream.work if stream.captured is None else stream.captured).append(work)

    def _allocate(self, array):
        self.need_context()
        address, self.next_address = self.next_address, self.next_address + (array.nbytes + 255) // 256 * 256
        self.memory[address] = array
        return address

    def _free(self, address):
        if self.depth():
            del self.memory[address]
        else:
            self.leaked += 1

    # The modules.

    def driver(gpu):  # noqa: N805
        """The module pycuda.driver."""
        driver = types.ModuleType("pycuda.driver")

        class Device:
            def __init__(self, number):
                if not gpu.is_initialised or number >= gpu.count:
                    raise CudaError("cuDeviceGet failed: invalid device ordinal")

            @staticmethod
            def count():
                return gpu.count

            def name(self):
                return gpu.gpu_name

            def compute_capability(self):
                return gpu.capability

            def retain_primary_context(self):
                gpu.contexts_retained += 1
                return Context()

        class Context:
            def push(self):
                gpu.local.depth = gpu.depth() + 1

            @staticmethod
            def pop():
                gpu.need_context()
                gpu.local.depth -= 1

        class Stream:
            def __init__(self, flags=0):
                gpu.need_context()
                assert flags == 1, "a stream that the default one waits for"
                self.handle, self.work, self.captured = 7000 + len(gpu.streams), [], None
                gpu.streams[self.handle] = self

            def synchronize(self):
                gpu.need_context()
                if self.captured is not None:
                    raise CudaError("a synchronisation inside a capture")
                while self.work:
                    self.work.pop(0)()

        class DeviceAllocation:
            def __init__(self, nbytes):
                self.address = gpu._allocate(np.full(nbytes, 0xFF, np.uint8))  # NaN, until something is copied there

            def __int__(self):
                return self.address

            def __del__(self):
                gpu._free(self.address)

        def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
            return np.asarray(HostMemory(gpu, shape, dtype, mem_flags == driver.host_alloc_flags.DEVICEMAP))

        def memcpy_htod_async(dest, src, stream=None):
            assert isinstance(src.base, HostMemory), "a copy from pageable memory"
            gpu.put(stream.handle, lambda: gpu.view(int(dest), src.shape).__setitem__(..., src))

        def memcpy_dtoh_async(dest, src, stream=None):
            assert isinstance(dest.base, HostMemory), "a copy to pageable memory"
            gpu.put(stream.handle, lambda: dest.__setitem__(..., gpu.view(int(src), dest.shape)))

        def init():
            gpu.is_initialised = True

        driver.Error, driver.init, driver.Device, driver.Stream = CudaError, init, Device, Stream
        driver.host_alloc_flags = types.SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)
        driver.mem_alloc, driver.pagelocked_empty = DeviceAllocation, pagelocked_empty
        driver.memcpy_htod_async, driver.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
        driver.get_version = lambda: gpu.cuda_version
        return driver

    def extension(gpu, is_careful=True):  # noqa: N805
        """The module edgepose._cuda. is_careful: raises if a call refused to be captured, as the real one does."""
        extension = types.ModuleType("edgepose._cuda")

        class Graph:
            def __init__(self, work):
                self.work = work

            def launch(self, handle):
                gpu.launches += 1
                for work in self.work:
                    gpu.put(handle, work)

        def capture(handle, enqueue):
            stream = gpu.streams[handle]
            stream.captured = []
            try:
                is_taken = enqueue()
                work = stream.captured
            finally:
                stream.captured = None
            if not is_taken and is_careful:
                raise RuntimeError("what was to be captured was refused")
            return Graph(work)

        extension.capture = capture
        extension.devices, extension.architectures = lambda: [], lambda: [87]
        extension.why_unavailable = lambda: "the fake captures graphs and runs no plans"
        return extension


def install(monkeypatch, gpu, trt=None, extension=None):
    """Put the fakes where `import` finds them; without an extension edgepose._cuda cannot be imported."""
    package = types.ModuleType("pycuda")
    package.driver = gpu.driver()
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "edgepose._cuda", extension)
    if extension is None:
        monkeypatch.delattr(edgepose, "_cuda", raising=False)
    else:
        monkeypatch.setattr(edgepose, "_cuda", extension, raising=False)
