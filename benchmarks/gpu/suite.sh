#!/usr/bin/env bash
# Builds the extensions for this machine's GPU, checks the kernels on it and measures, in at most 8 minutes:
#
#     benchmarks/gpu/suite.sh              -> benchmarks/results/gpu_NAME.json, with how each stage ended
#     benchmarks/gpu/suite.sh --check      what of it needs no GPU, with the edgepose that is installed, on a small model; writes nothing
#
# A stage that fails does not stop the later ones; the exit status is then 1. Needs bash, coreutils and, to build, nvcc.
#
#   PYTHON           has numpy, safetensors, torch, setuptools, pybind11; onnx, onnxruntime and rich unless PREPARED is given; pytest for
#                    the kernel tests. Default: python3
#   TENSORRT_PYTHON  has numpy, safetensors, tensorrt, pycuda; no torch. Default: PYTHON, and all is then interleaved in one process.
#                    Where a Python needs an environment of its own, a wrapper:
#                        #!/bin/bash
#                        export TRT_PYTHONPATH=$PYTHONPATH; source /opt/tensorrt/env.sh; exec python3.10 "$@"
#                    A package it lacks: the unpacked wheel on PYTHONPATH (one wheel of safetensors does for every Python 3). It runs
#                    TensorRT in CUDA graphs only if an edgepose/_cuda built for that Python lies in the source tree; its rows say so.
#   PREPARED         a folder by `python -m edgepose.benchmarks.gpu.run --prepare`, made elsewhere. Default: made here
#   OUT, WORK, MODELS, BATCHES, TOTAL_S, COMMIT, TENSORRT_TACTIC_SOURCES, EDGEPOSE_CUDA_ARCHITECTURES   the names say it
set -euo pipefail

absolute() { if [[ $1 == */* ]]; then realpath -s "$1"; else echo "$1"; fi; }  # a bare name is a command's

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(absolute "${PYTHON:-python3}")
tensorrt_python=$(absolute "${TENSORRT_PYTHON:-$python}")
total_s=${TOTAL_S:-480}
reserve_s=$((total_s / 3))  # for the figures, which come last
read -ra models <<<"${MODELS:-ampose strided27}"
read -ra batches <<<"${BATCHES:-1 16 256}"
read -ra tactics <<<"${TENSORRT_TACTIC_SOURCES:-}"
check=0
case "${1:-}" in
  "") ;;
  --check) check=1 models=(martinez-s) batches=(1) ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

if ((check)); then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
else
  work=$(absolute "${WORK:-$root/build/gpu_suite}")
  out=$(absolute "${OUT:-$root/benchmarks/results}")
  mkdir -p "$work/lib" "$out"
  rm -f "$work/report.json"
  export PYTHONPATH=$work/lib${PYTHONPATH:+:$PYTHONPATH}  # before the source tree: its package has no benchmarks
fi
report=$work/report.json
prepared=$(absolute "${PREPARED:-$work/prepared}")
failed=0
cd "$work"  # python -m looks in the folder it is called in first

note() {  # STAGE OUTCOME SECONDS SAID
  echo "== $1: $2${4:+: $4}"
  "$python" "$root/benchmarks/gpu/report.py" "$report" --stage "$@"
}

left() { echo $((total_s - reserve_s - SECONDS)); }

# stage NAME LIMIT_S COMMAND...: notes how the command ended, which is $outcome afterwards, and the last line it said.
stage() {
  local name=$1 limit=$2 began=$SECONDS status=0
  outcome=ok
  shift 2
  ((limit <= $(left))) || limit=$(left)
  if ((limit < 3)); then
    outcome="left out" failed=1
    note "$name" "$outcome" 0 "the $total_s s were over"
    return
  fi
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$work/$name.log" || status=$?
  case $status in
    0) ;;
    124 | 137) outcome="cut after $limit s" failed=1 ;;
    *) outcome="failed with status $status" failed=1 ;;
  esac
  note "$name" "$outcome" $((SECONDS - began)) "$(grep -v '^[= ]*$' "$work/$name.log" | tail -n 1 | cut -c 1-300)"
}

gpu_name() { { nvidia-smi --query-gpu=name --format=csv,noheader || cat /proc/device-tree/model; } 2>/dev/null | tr -d '\0' | head -n 1; }

# The number of nvcc's sm_NUMBER: as the driver says, or of the Jetsons, whose nvidia-smi does not.
architecture() {
  local found
  found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -cd 0-9) || true
  case "$found$(gpu_name || true)" in
    [0-9]*) echo "$found" ;;
    *Xavier*) echo 72 ;;
    *Orin*) echo 87 ;;
    *Thor*) echo 110 ;;
  esac
}

# libraries PYTHON NAME...: says which of the libraries are missing; fails if one is.
libraries() {
  local interpreter=$1
  shift
  stage "libraries-$(basename "$interpreter")-$1" 60 "$interpreter" -c '
import importlib.util, platform, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print("Python", platform.python_version(), *([f"has no {name};" for name in missing] or ["has all of", ", ".join(sys.argv[1:])]))
sys.exit(bool(missing))' "$@"
}

benchmark() {  # STAGE LIMIT_S PYTHON RUNTIME...
  local name=$1 limit=$2 interpreter=$3
  shift 3
  ((limit <= $(left))) || limit=$(left)
  stage "$name" "$limit" "$interpreter" -m edgepose.benchmarks.gpu.run --measure "$prepared" --append "$report" --batches "${batches[@]}" \
    --seconds $((limit > 20 ? limit - 15 : 5)) ${commit:+--commit "$commit"} ${tactics[0]:+--tactic-sources "${tactics[@]}"} \
    ${1:+--runtimes "$@"}
}

# 1. What is missing, before any time is spent.
libraries "$python" numpy safetensors torch
libraries "$python" setuptools pybind11 pytest
[[ -n ${PREPARED:-} ]] || libraries "$python" onnx onnxruntime rich
((check)) || libraries "$tensorrt_python" tensorrt pycuda safetensors

# 2. The extensions, for this GPU alone, into a folder of their own.
arch=${EDGEPOSE_CUDA_ARCHITECTURES:-$(architecture)}
commit=${COMMIT:-$(git -C "$root" describe --always --dirty=+changes 2>/dev/null || true)}
if ((check)); then
  note build "left out" 0 "--check"
elif [[ -z $arch ]]; then
  failed=1
  note build "left out" 0 "no GPU is found here"
else
  stage build 180 env -C "$root" EDGEPOSE_CUDA_ARCHITECTURES="$arch" "$python" setup.py -q build --parallel 2 --build-base "$work" \
    --build-lib "$work/lib" egg_info --egg-base "$work/lib"
  cp -n "$root"/edgepose/_cuda.*.so "$work/lib/edgepose/" 2>/dev/null || true  # those of another Python
fi
((check)) || stage device 30 "$python" -c 'import sys; from edgepose import _cuda; print(_cuda.devices()); sys.exit(_cuda.why_unavailable())'
why_not=
((!check)) || why_not=--check
[[ $outcome == ok ]] || why_not="no GPU that the extension runs on"

# 3. Models, graphs and reference poses: everything that is measured.
names=(cuda-fp32 cuda-fp16 cuda-int8 torch-fp32 torch-fp16)
compiled=(torch-compile-fp16 torch-compile-fp32)
tensorrt=(tensorrt-fp16 tensorrt-int8)
[[ ! -e /etc/nv_tegra_release ]] || tensorrt+=(tensorrt-zero-copy-fp16 tensorrt-zero-copy-int8)
((!check)) || names=(cuda-fp16) compiled=(torch-compile-fp16) tensorrt=(tensorrt-fp16)
flavour=$("$tensorrt_python" -c 'from edgepose.build_engines.tensorrt.builder import is_offered; print("strong" if is_offered("strong") else "legacy")' 2>/dev/null || true)
[[ -n ${PREPARED:-} ]] || stage prepare 120 "$python" -m edgepose.benchmarks.gpu.run --prepare "$prepared" --models "${models[@]}" \
  --batches "${batches[@]}" --runtimes "${names[@]}" "${compiled[@]}" "${tensorrt[@]}" ${flavour:+--flavours "$flavour"}

# 4. Each kernel on the GPU against float64.
if ((check)); then
  stage kernels 60 "$python" -m pytest -qq -p no:cacheprovider --collect-only "$root/tests/test_cuda_kernels.py" -k gpu
elif [[ -n $why_not ]]; then
  note kernels "left out" 0 "$why_not"
else
  stage kernels 90 "$python" -m pytest -q -p no:cacheprovider "$root/tests/test_cuda_kernels.py" -k gpu
fi

# 5. No access out of bounds, no race, no barrier that not all reach.
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || why_not=${why_not:-compute-sanitizer is not installed}
for tool in memcheck racecheck synccheck; do
  if [[ -n $why_not ]]; then
    note "$tool" "left out" 0 "$why_not"
  else
    stage "$tool" 25 "$sanitizer" --tool "$tool" --target-processes all --error-exitcode 9 "$python" -m edgepose.benchmarks.gpu.run --once "$prepared"
  fi
done

# 6. The figures. torch.compile comes last, by itself: its compilations take longer than everything else.
reserve_s=$((total_s / 5))
if ((check)); then
  benchmark figures 60 "$python"
elif [[ $tensorrt_python == "$python" ]]; then
  benchmark figures "$(left)" "$python" "${names[@]}" "${tensorrt[@]}"
else
  benchmark figures 60 "$python" "${names[@]}"
  benchmark figures-tensorrt "$(left)" "$tensorrt_python" "${tensorrt[@]}"
fi
reserve_s=0
((check)) || benchmark figures-compiled "$(left)" "$python" "${compiled[@]}"

if ! ((check)); then
  slug=$(gpu_name | tr -cs 'A-Za-z0-9\n' '-' | tr 'A-Z' 'a-z' || true)
  cp "$report" "$out/gpu_${slug:-none}.json"
  echo "$out/gpu_${slug:-none}.json"
fi
exit $failed
