// The part of CUDA that the kernels use, on the host: a thread is a fiber of scheduler.cpp.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__

using std::max;
using std::min;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using cudaStream_t = void*;
extern "C" int32_t aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
// Of checked builds only, see watch.cpp: they are told about atomics, which it can't see.
extern "C" void emulated_watch_atomic(void* at, size_t size) __attribute__((weak));

namespace emulated {

constexpr int kWarp = 32;
constexpr size_t kSharedBytes = 48 << 10;  // what a kernel may declare
constexpr size_t kStackBytes = 256 << 10;

// What runs. The epochs count the barriers of the block and of its warps.
struct Now {
  const char* kernel = "";
  int64_t launch = 0, block = 0;  // numbers
  int thread = -1;  // in its block; -1 while no kernel runs
  dim3 thread_index, block_index, block_size, grid_size;
  uint32_t block_epoch = 0, warp_epochs[kWarp] = {};
  char *stack = nullptr, *shared = nullptr;
};
extern Now now;

struct Config {
  dim3 grid, block;
  int64_t dynamic_shared;
  cudaStream_t stream;
};

// Runs `thread` as each thread of each block.
// Throws std::runtime_error that lists what is wrong with the kernel or its launch.
void run(const char* kernel, const Config& config, const std::function<void()>& thread);

template <typename... Parameters, typename... Arguments>
void launch(
    const char* name, const Config& config, void (*kernel)(Parameters...), Arguments&&... given) {
  const std::tuple<std::decay_t<Parameters>...> arguments(std::forward<Arguments>(given)...);
  run(name, config, [&] { std::apply(kernel, arguments); });
}

void check_launch();

class Guard {  // in place of PyTorch's guard: it has to live while a kernel is launched
 public:
  explicit Guard(int32_t device);
  ~Guard();
};

void report(const char* error, const void* code = nullptr);  // the launch throws in the end
void require(bool holds, const char* text);  // the assertion of a kernel, which ends the launch
void* shared_memory(size_t size, size_t alignment);
void wait_for_block(const char* file, int line);
// The bits that the lane number `source` gives.
uint64_t wait_for_warp(unsigned mask, uint64_t bits, int source, const char* file, int line);

// A variable in shared memory: the threads of a block declare them in the same order.
template <typename V>
V& shared() {
  return *static_cast<V*>(shared_memory(sizeof(V), alignof(V)));
}

template <typename V>
V shuffle(unsigned mask, V value, int source, const char* file, int line) {
  static_assert(std::is_arithmetic_v<V> && (sizeof(V) == 4 || sizeof(V) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(V));
  bits = wait_for_warp(mask, bits, source, file, line);
  std::memcpy(&value, &bits, sizeof(V));
  return value;
}

template <typename V>
void check_atomic(V* at) {
  if (reinterpret_cast<uintptr_t>(at) % sizeof(V)) report("misaligned atomic");
  if (emulated_watch_atomic) emulated_watch_atomic(at, sizeof(V));
}

}  // namespace emulated

#define threadIdx (::emulated::now.thread_index)
#define blockIdx (::emulated::now.block_index)
#define blockDim (::emulated::now.block_size)
#define gridDim (::emulated::now.grid_size)
#define EMULATED_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATED_HERE) { emulated::wait_for_block(file, line); }

inline void __syncwarp(unsigned mask = 0xFFFFFFFF, EMULATED_HERE) {
  emulated::wait_for_warp(mask, 0, -1, file, line);
}

template <typename V>
V __shfl_sync(unsigned mask, V value, int source, int width = emulated::kWarp, EMULATED_HERE) {
  const int lane = emulated::now.thread % emulated::kWarp;
  const int from = (lane & ~(width - 1)) + (source & (width - 1));
  return emulated::shuffle(mask, value, from, file, line);
}

template <typename V>
V __shfl_xor_sync(unsigned mask, V value, int distance, EMULATED_HERE) {
  const int lane = emulated::now.thread % emulated::kWarp;
  return emulated::shuffle(mask, value, lane ^ distance, file, line);
}

inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

template <typename V>
__attribute__((no_sanitize("thread"))) V atomicAdd(V* at, V term) {
  static_assert(std::is_same_v<V, float> || std::is_same_v<V, double>);
  emulated::check_atomic(at);
  const V before = *at;
  *at = before + term;
  return before;
}

__attribute__((no_sanitize("thread"))) inline unsigned long long atomicOr(
    unsigned long long* at, unsigned long long bits) {
  emulated::check_atomic(at);
  const unsigned long long before = *at;
  *at = before | bits;
  return before;
}

#if EMULATED_ARCH >= 900
__attribute__((no_sanitize("thread"))) inline float4 atomicAdd(float4* at, float4 term) {
  emulated::check_atomic(at);
  const float4 before = *at;
  *at = {before.x + term.x, before.y + term.y, before.z + term.z, before.w + term.w};
  return before;
}
#endif
