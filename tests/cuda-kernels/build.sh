#!/bin/sh
# build.sh <folder>: kernel_test and the kernels' images, as the addon embeds them, for machines with and without nvcc.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernels=$here/../../packages/decoder/native/cuda
out=${1:-$here/build}
mkdir -p "$out"
# PTX for 8.0 as well: with CUDA_FORCE_PTX_JIT=1 the same tests run what GPUs before 9.0 run.
for kernel in "$kernels"/*.cu; do
  nvcc -std=c++17 -O3 -gencode arch=compute_80,code=compute_80 -gencode arch=compute_90,code=sm_90 \
    -fatbin -o "$out/$(basename "$kernel" .cu).fatbin" "$kernel"
done
for source in main test_elements test_linear test_attention measure; do
  nvcc -std=c++17 -O2 --extended-lambda -arch=sm_90 -c -o "$out/$source.o" "$here/$source.cu"
done
nvcc -arch=sm_90 -cudart static -o "$out/kernel_test" "$out"/main.o "$out"/test_elements.o "$out"/test_linear.o \
  "$out"/test_attention.o "$out"/measure.o -ldl
