"""The library tensorrt in versions 8.6, 10.3, 10.13 and 11, over a FakeGpu: same names, same refusals, real poses.

A plan holds the graph it was built from; execute_async_v3 runs it in ONNX Runtime on the fake GPU's memory. NAMES and
NOT_EVERYWHERE say which version has which name (from the bindings' sources; those of 8.6 agree with a real 8.6.0).
`without` takes names away, `used` lists those that were looked at.
"""

import json
from importlib.machinery import ModuleSpec

import onnx
import onnxruntime
from onnx import TensorProto

VERSIONS = ("8.6", "10.3", "10.13", "11")
FULL = {"8.6": "8.6.2", "10.3": "10.3.0", "10.13": "10.13.3", "11": "11.4.1"}
OPSET = {"8.6": 17, "10.3": 20, "10.13": 23, "11": 25}  # the newest that the parser reads

NAMES = {  # type -> the names that edgepose might use
    "": "Builder OnnxParser Runtime ILogger Logger NetworkDefinitionCreationFlag BuilderFlag MemoryPoolType "
        "ProfilingVerbosity TacticSource LayerInformationFormat TensorIOMode float32 float16 int8 int32 bool "
        "__version__",
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH EXPLICIT_PRECISION STRONGLY_TYPED",
    "BuilderFlag": "FP16 INT8 DEBUG REFIT TF32 SPARSE_WEIGHTS OBEY_PRECISION_CONSTRAINTS "
                   "PREFER_PRECISION_CONSTRAINTS VERSION_COMPATIBLE",
    "MemoryPoolType": "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM",
    "ProfilingVerbosity": "LAYER_NAMES_ONLY NONE DETAILED",
    "TacticSource": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    "LayerInformationFormat": "ONELINE JSON",
    "TensorIOMode": "NONE INPUT OUTPUT", "Logger": "INTERNAL_ERROR ERROR WARNING INFO VERBOSE",
    "Builder": "create_network create_builder_config build_serialized_network platform_has_fast_fp16 build_engine",
    "Network": "num_layers get_layer num_inputs get_input",
    "Layer": "name num_outputs get_output precision set_output_type",
    "Tensor": "name dtype shape", "OnnxParser": "parse num_errors get_error",
    "Config": "set_memory_pool_limit profiling_verbosity set_tactic_sources set_flag clear_flag create_timing_cache "
              "set_timing_cache get_timing_cache max_workspace_size int8_calibrator",
    "TimingCache": "serialize", "Runtime": "deserialize_cuda_engine",
    "Engine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_shape get_tensor_dtype "
              "create_execution_context create_engine_inspector num_bindings",
    "Inspector": "get_engine_information",
    "Context": "set_input_shape set_tensor_address execute_async_v3 execute_async_v2",}
NOT_EVERYWHERE = {
    **dict.fromkeys(["BuilderFlag.FP16", "BuilderFlag.INT8", "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
                     "BuilderFlag.PREFER_PRECISION_CONSTRAINTS", "Layer.precision", "Layer.set_output_type",
                     "Builder.platform_has_fast_fp16", "Config.int8_calibrator",
                     "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"], ("8.6", "10.3", "10.13")),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": ("10.3", "10.13", "11"),
    **dict.fromkeys(["NetworkDefinitionCreationFlag.EXPLICIT_PRECISION", "Config.max_workspace_size",
                     "Builder.build_engine", "Engine.num_bindings", "Context.execute_async_v2"], ("8.6",)),}
TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.INT8: "int8"}


class Member(int):
    """A value of an enumeration of pybind11."""

    def __new__(cls, value, name):
        self = super().__new__(cls, value)
        self.name = name
        return self


class Strict:
    """An object of the library: it has the names of its version and notes those that were looked at."""

    def __init__(self, trt, **values):
        self.__dict__.update(_trt=trt, **values)

    def __getattribute__(self, name):
        if not name.startswith("_"):
            trt = object.__getattribute__(self, "_trt")
            trt._check(type(self).__name__, name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if not name.startswith("_"):
            self._trt._check(type(self).__name__, name)
        self.__dict__[name] = value


class Enumeration:
    def __init__(self, trt, name, members):
        self._trt, self._name, self._members = trt, name, {m: Member(i, m) for i, m in enumerate(members)}

    def __getattr__(self, name):
        if name == "__members__":
            return {m: v for m, v in self._members.items() if self._trt._has(self._name, m)}
        self._trt._check(self._name, name)
        return self._members[name]


class FakeTensorRT:
    """The module. refuse: the number of calls of execute_async_v3 to refuse from now on. breaks: (network, config) ->
    the reason why it does not build, or None. built: the settings of each build."""

    def __init__(self, version, gpu, without=()):
        self._version, self._gpu, self._without = version, gpu, set(without)
        self.__spec__ = ModuleSpec("tensorrt", None)  # torch.export looks for it
        self.used, self.refuse, self.breaks, self.built = set(), 0, lambda network, config: None, []
        for name in ("NetworkDefinitionCreationFlag", "BuilderFlag", "MemoryPoolType", "ProfilingVerbosity",
                     "TacticSource", "LayerInformationFormat", "TensorIOMode", "Logger"):
            self.__dict__["_" + name] = Enumeration(self, name, NAMES[name].split())
        self.__dict__.update({f"_{kind}": kind for kind in ("float32", "float16", "int8", "int32", "bool")},
                             ___version__=FULL[version])
        self.__dict__.update(_Builder=lambda logger: Builder(self, _logger=logger), _ILogger=ILogger,
                             _OnnxParser=lambda network, logger: OnnxParser(self, _network=network, _logger=logger,
                                                                            num_errors=0, _errors=[]),
                             _Runtime=lambda logger: Runtime(self, _logger=logger))

    def _has(self, owner, name):
        full = f"{owner}.{name}".lstrip(".")
        return (name in NAMES[owner].split() and self._version in NOT_EVERYWHERE.get(full, VERSIONS)
                and full not in self._without)

    def _check(self, owner, name):
        self.used.add(f"{owner}.{name}".lstrip("."))
        if not self._has(owner, name):
            raise AttributeError(f"{owner or 'module tensorrt'} has no attribute {name!r}")

    def __getattr__(self, name):
        if name not in NAMES[""].split():
            raise AttributeError(f"module tensorrt has no attribute {name!r}")
        self._check("", name)
        return self.__dict__["_" + name]


def exact():
    """Options of a session whose int8 does not saturate, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


class ILogger:
    def __init__(self):
        self.is_made = True

    def complain(self, message):
        assert self.is_made, "ILogger.__init__ was not called"
        self.log(Member(1, "ERROR"), message)
        self.log(Member(2, "WARNING"), "a warning")


class Builder(Strict):
    def create_network(self, flags=0):
        return Network(self._trt,
                       _flags={name for name, bit in self._trt._NetworkDefinitionCreationFlag._members.items()
                               if flags >> bit & 1}, _layers=[])

    def create_builder_config(self):
        return Config(self._trt, _flags={"TF32"}, _workspace=None, _sources=None, _cache=None, profiling_verbosity=None)

    def build_serialized_network(self, network, config):
        trt = self._trt
        trt._gpu.need_context()
        is_strong = trt._version == "11" or "STRONGLY_TYPED" in network._flags
        has_quantised = any(node.op_type == "QuantizeLinear" for node in network._onnx.graph.node)
        by_flag = config._flags & {"FP16", "INT8"}
        reason = trt.breaks(network, config)
        if is_strong and by_flag:
            reason = f"a strongly typed network with the flags {by_flag}"
        elif not is_strong and has_quantised and "INT8" not in by_flag:
            reason = "Q/DQ layers without the flag INT8"
        elif any(not d.dim_value for t in (*network._onnx.graph.input, *network._onnx.graph.output)
                 for d in t.type.tensor_type.shape.dim):
            reason = "dynamic shapes without a profile"
        elif config._workspace is None:
            reason = "no workspace"
        if reason:
            self._logger.complain(f"Error Code 10: {reason}")
            return None
        asked = {"strong": is_strong, "flags": sorted(config._flags), "sources": config._sources,
                 "detail": config.profiling_verbosity.name,
                 "kept": sorted(layer._node for layer in network._layers if getattr(layer, "_precision", None)),
                 "cache": config._cache._content.decode()}
        trt.built.append(asked)
        config._cache._content = _cache_of(trt)
        about = {"version": FULL[trt._version], **asked, "layers": [layer._node for layer in network._layers]}
        return json.dumps(about).encode() + b"\n" + network._onnx.SerializeToString()


class OnnxParser(Strict):
    def parse(self, model, path=None):
        network, version = self._network, self._trt._version
        graph = onnx.load_from_string(bytes(model))
        opset = graph.opset_import[0].version
        if version == "8.6" and "EXPLICIT_BATCH" not in network._flags:
            self._errors.append("the network needs EXPLICIT_BATCH")
        if opset > OPSET[version]:
            self._errors.append(f"opset {opset} is newer than {OPSET[version]}")
        types = {t.name: t.type.tensor_type.elem_type
                 for t in onnx.shape_inference.infer_shapes(graph).graph.value_info}
        types |= {t.name: t.type.tensor_type.elem_type for t in graph.graph.output}
        constants = {t.name: t for t in graph.graph.initializer}
        constants |= {n.output[0]: n.attribute[0].t for n in graph.graph.node if n.op_type == "Constant"}
        for node in graph.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                scale = constants.get(node.input[1])
                if scale is None or (version == "8.6" and scale.data_type != TensorProto.FLOAT):
                    self._errors.append(f"{node.name}: the scale must be a float32 constant")
            layer_of = [TYPES.get(types.get(name), "int32") for name in node.output]
            network._layers.append(Layer(self._trt, _node=node.name, _types=layer_of, name=node.name,
                                         num_outputs=len(layer_of)))
            if node.op_type == "LayerNormalization":  # TensorRT makes several layers of this node
                network._layers.append(Layer(self._trt, _node=node.name, _types=["float32"],
                                             name=f"{node.name}_{len(network._layers)}", num_outputs=1))
        network._onnx = graph
        self.__dict__["num_errors"] = len(self._errors)
        return not self._errors

    def get_error(self, index):
        return self._errors[index]


class Network(Strict):
    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]


class Layer(Strict):
    def get_output(self, index):
        return Tensor(self._trt, dtype=self._types[index])

    @property
    def precision(self):
        return self._precision

    def __setattr__(self, name, value):
        if name == "precision":
            self._trt._check("Layer", "precision")
            assert set(self._types) <= {"float32", "float16"}, (
                f"the precision of {self._node}, whose output is {self._types}")
            name = "_precision"
        self.__dict__[name] = value

    def set_output_type(self, index, dtype):
        assert self._types[index] in ("float32", "float16")
        self._types[index] = dtype


class Tensor(Strict):
    pass


class Config(Strict):
    def set_flag(self, flag):
        self._flags.add(flag.name)

    def clear_flag(self, flag):
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool, size):
        assert pool.name == "WORKSPACE" and 1 << 20 <= size <= 1 << 33
        self.__dict__["_workspace"] = size

    def set_tactic_sources(self, sources):
        self.__dict__["_sources"] = sources
        return True

    def create_timing_cache(self, content):
        if content and not content.startswith(b"timings of "):
            return None
        return TimingCache(self._trt, _content=bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache._content not in (b"", _cache_of(self._trt)):
            return False
        self.__dict__["_cache"] = cache
        return True

    def get_timing_cache(self):
        return self._cache


def _cache_of(trt):
    return f"timings of {FULL[trt._version]} on {trt._gpu.gpu_name}".encode()


class TimingCache(Strict):
    def serialize(self):
        return self._content


class Runtime(Strict):
    def deserialize_cuda_engine(self, payload):
        self._trt._gpu.need_context()
        about, _, graph = bytes(payload).partition(b"\n")
        try:
            plan = {**json.loads(about), "onnx": graph}
        except ValueError:
            self._logger.complain("Serialization assertion failed: the plan is damaged")
            return None
        if plan["version"] != FULL[self._trt._version]:
            self._logger.complain(f"Version tag does not match: {plan['version']}")
            return None
        return Engine(self._trt, _plan=plan, _runtime=self)


class Engine(Strict):
    @property
    def _tensors(self):
        graph = onnx.load_from_string(self._plan["onnx"]).graph
        return {t.name: (mode, tuple(d.dim_value for d in t.type.tensor_type.shape.dim),
                         TYPES[t.type.tensor_type.elem_type])
                for mode, tensors in (("INPUT", graph.input), ("OUTPUT", graph.output)) for t in tensors}

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return self._trt._TensorIOMode._members[self._tensors[name][0]]

    def get_tensor_shape(self, name):
        return self._tensors[name][1]

    def get_tensor_dtype(self, name):
        return self._tensors[name][2]

    def create_execution_context(self):
        self._trt._gpu.need_context()
        session = onnxruntime.InferenceSession(self._plan["onnx"], exact(), providers=["CPUExecutionProvider"])
        return Context(self._trt, _engine=self, _session=session, _tensors=self._tensors, _addresses={})

    def create_engine_inspector(self):
        return Inspector(self._trt, _engine=self)


class Inspector(Strict):
    def get_engine_information(self, format):
        assert format.name == "JSON"
        return json.dumps({"Layers": [{"Name": name} for name in self._engine._plan["layers"]]})


class Context(Strict):
    def set_input_shape(self, name, shape):
        return self._tensors[name][:2] == ("INPUT", tuple(shape))

    def set_tensor_address(self, name, memory):
        assert isinstance(memory, int)
        self._addresses[name] = memory
        return name in self._tensors

    def execute_async_v3(self, stream_handle):
        trt, gpu = self._trt, self._trt._gpu
        if trt.refuse:
            trt.refuse -= 1
            self._engine._runtime._logger.complain("the enqueue was refused")
            return False
        (source, x_shape), (target, y_shape) = ((name, shape) for name, (_, shape, _) in self._tensors.items())

        def work():
            y = self._session.run(None, {source: gpu.view(self._addresses[source], x_shape).copy()})[0]
            gpu.view(self._addresses[target], y_shape)[...] = y
        gpu.put(stream_handle, work)
        return True
