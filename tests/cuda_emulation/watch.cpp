// What a checked build watches. Kernels are compiled with -fsanitize=thread, but the functions that
// it calls for every access to memory are these. An access of a running thread has to be
//   - within a tensor, the block's shared memory, the thread's stack or, if it reads, the host's
//     memory, and aligned;
//   - in shared memory, of a byte that some thread of the block has written;
//   - ordered after what other threads did to the byte, by a barrier of the block or the warp.
//     Nothing orders threads of different blocks. Atomics need no order among each other.
// GCC does not tell about writes to the place of a returned struct; results then show them.

#undef TORCH_TARGET_VERSION  // allocators are no part of the stable ABI
#include <c10/core/CPUAllocator.h>

#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "include/cuda_runtime.h"

namespace emulated {
namespace {

// ---- tensors, apart from each other: an index that is off leads nowhere else

constexpr size_t kApart = 4096, kAlignment = 64;

std::mutex heap_mutex;
std::map<const char*, size_t> heap;  // begin and size of each

void release(void* raw) {
  {
    const std::lock_guard<std::mutex> lock(heap_mutex);
    heap.erase(static_cast<char*>(raw) + kApart + kAlignment);
  }
  std::free(raw);
}

struct WatchedAllocator : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
    void* raw = nullptr;
    if (posix_memalign(&raw, kApart, size + 3 * kApart)) throw std::bad_alloc();
    // At an odd multiple: no more aligned than PyTorch promises. New memory holds NaN.
    char* begin = static_cast<char*>(raw) + kApart + kAlignment;
    std::memset(begin, 0xFF, size);
    const std::lock_guard<std::mutex> lock(heap_mutex);
    heap[begin] = size;
    return {begin, raw, &release, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }
};

const bool is_installed = [] {
  static WatchedAllocator allocator;
  c10::SetCPUAllocator(&allocator, 255);
  return true;
}();

enum class Place { host, stack, shared, tensor, outside };

Place place_of(const char* at, size_t size) {
  const auto within = [=](const char* begin, size_t length) {
    return at >= begin && at + size <= begin + length;
  };
  if (within(now.stack, kStackBytes)) return Place::stack;
  if (within(now.shared, kSharedBytes)) return Place::shared;
  const std::lock_guard<std::mutex> lock(heap_mutex);
  const auto next = heap.upper_bound(at + kApart / 2);
  if (next == heap.begin()) return Place::host;
  const auto& [begin, length] = *std::prev(next);
  if (within(begin, length)) return Place::tensor;
  return at < begin + length + kApart / 2 ? Place::outside : Place::host;
}

// ---- order

enum class Access { read, write, atomic };

struct Event {  // an access to a byte
  int64_t block = -1;
  int thread = 0;
  uint32_t block_epoch = 0, warp_epoch = 0;
  bool is_atomic = false;

  bool precedes(const Event& other) const {
    if (block < 0) return true;
    if (block != other.block) return false;
    if (thread == other.thread || block_epoch < other.block_epoch) return true;
    return thread / kWarp == other.thread / kWarp && warp_epoch < other.warp_epoch;
  }
};

struct Byte {
  int64_t block = -1;  // of the last access
  Event writer, reader, other_reader;  // the last one, and two of the readers since
};

constexpr size_t kLine = 64;
std::unordered_map<uintptr_t, std::vector<Byte>> lines;  // of memory, by number
int64_t launch = 0;  // that they are of

Byte& byte_at(const char* at) {
  std::vector<Byte>& line = lines[reinterpret_cast<uintptr_t>(at) / kLine];
  line.resize(kLine);
  return line[reinterpret_cast<uintptr_t>(at) % kLine];
}

// What is wrong with an access to a byte, or null.
const char* add_event(Byte& byte, const Event& event, Access kind, bool needs_writer) {
  const bool is_written = byte.writer.block == event.block;
  const bool is_ordered =
      byte.writer.precedes(event) || (byte.writer.is_atomic && event.is_atomic);
  if (kind == Access::read) {
    if (!byte.reader.precedes(event)) byte.other_reader = byte.reader;
    byte.reader = event;
    if (needs_writer && !is_written) return "read of shared memory that nobody wrote";
    return is_ordered ? nullptr : "race of a read with a write";
  }
  const bool is_read = !byte.reader.precedes(event) || !byte.other_reader.precedes(event);
  byte.writer = event, byte.reader = byte.other_reader = {};
  if (!is_ordered) return "race of two writes";
  return is_read ? "race of a write with a read" : nullptr;
}

bool is_unwritten(const char* at, size_t size) {
  return std::all_of(at, at + size, [](char byte) { return byte == char(0xFF); });
}

void watch(const void* address, size_t size, Access kind, size_t alignment, const void* code) {
  if (now.thread < 0) return;
  if (launch != now.launch) lines.clear(), launch = now.launch;
  const char* at = static_cast<const char*>(address);
  const Place place = place_of(at, size);
  if (place == Place::stack) return;
  if (reinterpret_cast<uintptr_t>(at) % alignment) report("misaligned access", code);
  if (place == Place::outside) return report("access outside of a tensor", code);
  if (place == Place::host) {
    if (kind != Access::read) report("write to memory of the host", code);
    return;
  }
  const bool is_shared = place == Place::shared;
  const Event event{
      now.block, now.thread, now.block_epoch, now.warp_epochs[now.thread / kWarp],
      kind == Access::atomic};
  const bool needs_writer = is_shared && is_unwritten(at, size);
  for (size_t i = 0; i < size; ++i) {
    Byte& byte = byte_at(at + i);
    if (is_shared && byte.block != event.block) byte = {};  // of a block before
    byte.block = event.block;
    if (const char* error = add_event(byte, event, kind, needs_writer)) return report(error, code);
  }
}

}  // namespace
}  // namespace emulated

// ---- what -fsanitize=thread calls

using emulated::Access;
using emulated::watch;

#define HOOK extern "C" __attribute__((visibility("default")))
#define CODE __builtin_return_address(0)
#define SIZED(n)                                                                         \
  HOOK void __tsan_read##n(void* at) { watch(at, n, Access::read, n, CODE); }            \
  HOOK void __tsan_write##n(void* at) { watch(at, n, Access::write, n, CODE); }          \
  HOOK void __tsan_unaligned_read##n(void* at) { watch(at, n, Access::read, 1, CODE); }  \
  HOOK void __tsan_unaligned_write##n(void* at) { watch(at, n, Access::write, 1, CODE); }
SIZED(1) SIZED(2) SIZED(4) SIZED(8) SIZED(16)
HOOK void __tsan_read_range(void* at, size_t size) { watch(at, size, Access::read, 1, CODE); }
HOOK void __tsan_write_range(void* at, size_t size) { watch(at, size, Access::write, 1, CODE); }
HOOK void __tsan_func_entry(void*) {}
HOOK void __tsan_func_exit() {}
HOOK void __tsan_init() {}
HOOK void __tsan_vptr_read(void*) {}
HOOK void __tsan_vptr_update(void*, void*) {}

extern "C" void emulated_watch_atomic(void* at, size_t size) {
  watch(at, size, Access::atomic, size, __builtin_return_address(0));
}

// The host's counters of shared pointers.
#define ATOMIC(bits, type)                                                               \
  HOOK type __tsan_atomic##bits##_load(const volatile type* at, int) {                   \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                        \
  }                                                                                      \
  HOOK void __tsan_atomic##bits##_store(volatile type* at, type value, int) {            \
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                      \
  HOOK type __tsan_atomic##bits##_fetch_add(volatile type* at, type value, int) {        \
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                              \
  }                                                                                      \
  HOOK type __tsan_atomic##bits##_fetch_sub(volatile type* at, type value, int) {        \
    return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST);                              \
  }
ATOMIC(8, uint8_t) ATOMIC(32, uint32_t) ATOMIC(64, uint64_t)
