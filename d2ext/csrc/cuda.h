// Shared by the CUDA sources: device and stream, dispatch on the four float types, grid-stride
// loops.
//
// A kernel is a template of T, the type in memory, and computes in Wide<T>. It is launched in a
// function template of its own, since not every compiler takes a launch inside a generic lambda:
//
//   with_floats(input.scalar_type(), [&](auto zero) { launch<decltype(zero)>(...); });
//
// Gradients that several threads add to are sums in Wide<T>, converted at the end. Packed atomics of
// half types would need half of the memory traffic, but a pixel gets dozens of terms, each rounded: a
// sum of 100 is then off by six times the rounding of the result, in bfloat16 by 1.2 %.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <type_traits>

namespace d2ext {

// ---- launches

// Makes a tensor's device the current one while it lives, and names the stream to launch on.
class OnDevice {
 public:
  explicit OnDevice(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

// Blocks for `count` items, at least one: launching none is an error.
inline unsigned blocks_for(int64_t count, int64_t threads) {
  const int64_t blocks = (count + threads - 1) / threads;
  return unsigned(std::clamp<int64_t>(blocks, 1, int64_t(1) << 30));
}

inline void check_launch() { STD_CUDA_KERNEL_LAUNCH_CHECK(); }

// A grid-stride loop, so that any number of items works with any number of blocks:
//   for (int64_t i = first_item(); i < count; i += item_step())
__device__ inline int64_t first_item() {
  return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t item_step() { return int64_t(gridDim.x) * blockDim.x; }

// ---- types

// The type to compute in: half types are only ways to store a float.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
constexpr auto kScalarType = torch::headeronly::CppTypeToScalarType<T>::value;

// Calls `run` with a zero of the C++ type.
template <typename F>
auto with_floats(torch::headeronly::ScalarType type, const F& run) {
  using torch::headeronly::ScalarType;
  if (type == ScalarType::Double) return run(double(0));
  if (type == ScalarType::Half) return run(torch::headeronly::Half(0.0f));
  if (type == ScalarType::BFloat16) return run(torch::headeronly::BFloat16(0.0f));
  STD_TORCH_CHECK(type == ScalarType::Float, "expected floats, got scalar type ", int(type));
  return run(float(0));
}

// N neighbours read or written at once; where they begin has to be a multiple of their size.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

// ---- atomic sums

// How many neighbours a thread adds to at once: four floats from compute capability 9.0 on.
template <typename W, int N>
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int kAdds = std::is_same_v<W, float> && N % 4 == 0 ? 4 : 1;
#else
constexpr int kAdds = 1;
#endif

// N * lanes neighbours that `lanes` threads add to, N each: the place of the i-th one of thread
// `lane`. Neighbouring threads take neighbouring places, since the memory carries out atomics of a
// warp by sectors of 32 bytes.
template <typename W, int N>
__device__ inline int place_of_term(int i, int lane, int lanes) {
  constexpr int kAtOnce = kAdds<W, N>;
  return (i / kAtOnce * lanes + lane) * kAtOnce + i % kAtOnce;
}

// Adds a thread's terms to the first `count` of these neighbours, a multiple of N.
template <typename W, int N>
__device__ inline void add_terms(W* sums, const W (&terms)[N], int lane, int lanes, int count) {
  constexpr int kAtOnce = kAdds<W, N>;
#pragma unroll
  for (int i = 0; i < N; i += kAtOnce) {
    const int place = place_of_term<W, N>(i, lane, lanes);
    if (place >= count) continue;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if constexpr (kAtOnce == 4) {
      atomicAdd(
          reinterpret_cast<float4*>(sums + place),
          make_float4(terms[i], terms[i + 1], terms[i + 2], terms[i + 3]));
      continue;
    }
#endif
    atomicAdd(sums + place, terms[i]);
  }
}

// ---- sums

constexpr int kWarp = 32;

// Sum over `lanes` neighbours of a warp, a power of two; every lane takes part and gets its sum.
template <typename T>
__device__ inline T warp_sum(T value, int lanes = kWarp) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFF, value, distance);
  }
  return value;
}

}  // namespace d2ext
