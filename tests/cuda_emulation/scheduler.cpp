// Runs the blocks of a launch one after another, and the threads of a block as fibers that leave
// off at barriers and warp operations. These are carried out once all threads that take part are
// there; a thread that has ended or is elsewhere is an error.

#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdio>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "include/cuda_runtime.h"

namespace emulated {

Now now;

namespace {

// Saves the registers that calls preserve, and goes on where `to` did so.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");
constexpr int kSavedRegisters = 6;

enum class State { ready, at_barrier, in_warp, done };

struct Fiber {
  State state = State::ready;
  void* top = nullptr;  // of its stack while it waits
  char* stack = nullptr;
  const char* file = "";  // where it waits
  int line = 0, source = -1;  // the lane whose bits it asks for, or -1
  uint64_t bits = 0;
  size_t shared_used = 0;
};

void* const kStream = reinterpret_cast<void*>(0x57);
const std::string kAssertion = "assertion failed: ";
std::vector<Fiber> fibers;  // their stacks are kept for the next launch
void* scheduler_top = nullptr;
const std::function<void()>* body = nullptr;
std::set<std::string> errors;
std::string faults;  // errors but for assertions, until Python asks
int guards = 0;
bool is_trapped = false, is_unchecked = false;
alignas(256) char shared_arena[kSharedBytes];

Fiber& running() { return fibers[now.thread]; }

void leave(State state, const char* file = "", int line = 0) {
  Fiber& fiber = running();
  fiber.state = state, fiber.file = file, fiber.line = line;
  emulated_switch(&fiber.top, scheduler_top);
}

// Ends the launch: its threads do not go on.
void stop(const std::string& error) {
  report(error.c_str());
  is_trapped = true;
  leave(State::done);
}

void entry() {
  (*body)();
  leave(State::done);
}

void resume(int thread) {
  now.thread = thread, now.stack = fibers[thread].stack;
  const dim3& size = now.block_size;
  now.thread_index = dim3(thread % size.x, thread / size.x % size.y, thread / size.x / size.y);
  emulated_switch(&scheduler_top, fibers[thread].top);
  now.thread = -1;
}

std::string place(int thread) {
  const Fiber& fiber = fibers[thread];
  const std::string who = "thread " + std::to_string(thread);
  if (fiber.state == State::done) return who + " has ended";
  return who + " waits in " + fiber.file + ":" + std::to_string(fiber.line);
}

// Checks that the threads from `first` on wait in one place.
void check_together(int first, int end) {
  for (int i = first + 1; i < end; ++i) {
    const Fiber &one = fibers[first], &other = fibers[i];
    if (one.state == other.state && one.line == other.line && one.file == other.file) continue;
    throw std::runtime_error("threads diverge: " + place(first) + ", but " + place(i));
  }
}

bool waits_in_warp(int first) {
  for (int i = first; i < first + kWarp; ++i) {
    if (fibers[i].state == State::in_warp) return true;
  }
  return false;
}

void release_warp(int first) {
  check_together(first, first + kWarp);
  uint64_t bits[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) bits[lane] = fibers[first + lane].bits;
  for (int lane = 0; lane < kWarp; ++lane) {
    Fiber& fiber = fibers[first + lane];
    if (fiber.source >= 0) fiber.bits = bits[fiber.source];
    fiber.state = State::ready;
  }
  // A shuffle orders no memory accesses.
  if (fibers[first].source < 0) ++now.warp_epochs[first / kWarp];
}

void release(int count) {
  bool any = false;
  for (int first = 0; first < count; first += kWarp) {
    if (!waits_in_warp(first)) continue;
    release_warp(first);
    any = true;
  }
  if (any) return;
  check_together(0, count);
  for (int i = 0; i < count; ++i) fibers[i].state = State::ready;
  ++now.block_epoch;
}

void run_block(int count) {
  std::memset(shared_arena, 0xFF, kSharedBytes);  // NaN, until a thread writes
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    void** end = reinterpret_cast<void**>(fiber.stack + kStackBytes);
    *--end = nullptr;  // a return address, which also aligns the stack as a call does
    *--end = reinterpret_cast<void*>(entry);
    fiber.top = end - kSavedRegisters;
    fiber.state = State::ready, fiber.shared_used = 0;
  }
  while (true) {
    bool all_done = true;
    for (int i = 0; i < count && !is_trapped; ++i) {
      if (fibers[i].state == State::ready) resume(i);
      all_done &= fibers[i].state == State::done;
    }
    if (all_done || is_trapped) return;
    release(count);
  }
}

void check_limits(const Config& config, int64_t count) {
  const dim3& grid = config.grid;
  if (int64_t(grid.x) * grid.y * grid.z * count == 0) throw std::runtime_error("empty launch");
  if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535 || count > 1024) {
    throw std::runtime_error("the launch is larger than CUDA allows");
  }
  if (count % kWarp) throw std::runtime_error("the emulator only runs whole warps");
  if (!guards) throw std::runtime_error("the tensors' device is not the current one");
  if (config.stream != kStream) throw std::runtime_error("not the current stream");
}

void add_stacks(int64_t count) {
  while (int64_t(fibers.size()) < count) {
    // The page below can't be touched: a stack that overflows ends the process.
    constexpr size_t page = 4096;
    void* pages = mmap(
        nullptr, kStackBytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, page, PROT_NONE);
    fibers.emplace_back().stack = static_cast<char*>(pages) + page;
  }
}

void run_blocks(const Config& config) {
  const int64_t count = int64_t(config.block.x) * config.block.y * config.block.z;
  check_limits(config, count);
  add_stacks(count);
  now.grid_size = config.grid, now.block_size = config.block;
  const dim3& grid = config.grid;
  const int64_t blocks = int64_t(grid.x) * grid.y * grid.z;
  for (now.block = 0; now.block < blocks && !is_trapped; ++now.block) {
    now.block_index =
        dim3(now.block % grid.x, now.block / grid.x % grid.y, now.block / grid.x / grid.y);
    run_block(int(count));
  }
}

}  // namespace

void run(const char* kernel, const Config& config, const std::function<void()>& thread) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  now.kernel = kernel, now.shared = shared_arena, body = &thread;
  ++now.launch;
  errors.clear();
  if (is_unchecked) report("the launch before was not checked");
  is_unchecked = true, is_trapped = false;
  try {
    run_blocks(config);
  } catch (const std::runtime_error& error) {
    report(error.what());
  }
  if (errors.empty()) return;
  is_unchecked = false;
  std::string text = std::string("emulated CUDA kernel ") + kernel + ":";
  for (const std::string& error : errors) text += "\n  " + error;
  if (errors.size() > 1 || errors.begin()->rfind(kAssertion, 0) != 0) faults += text + "\n";
  throw std::runtime_error(text);
}

void check_launch() { is_unchecked = false; }

Guard::Guard(int32_t) { ++guards; }
Guard::~Guard() { --guards; }

void report(const char* error, const void* code) {
  if (errors.size() >= 8) return;
  std::string text = error;
  if (code) {
    Dl_info library{};
    dladdr(code, &library);
    char offset[32];
    std::snprintf(
        offset, sizeof(offset), " at +%#zx",
        size_t(static_cast<const char*>(code) - static_cast<char*>(library.dli_fbase)));
    text += offset;
  }
  errors.insert(text);
}

void require(bool holds, const char* text) {
  if (!holds) stop(kAssertion + text);
}

void* shared_memory(size_t size, size_t alignment) {
  Fiber& fiber = running();
  const size_t at = (fiber.shared_used + alignment - 1) / alignment * alignment;
  fiber.shared_used = at + size;
  if (at + size > kSharedBytes) stop("more than 48 KiB of shared memory");
  return shared_arena + at;
}

void wait_for_block(const char* file, int line) { leave(State::at_barrier, file, line); }

uint64_t wait_for_warp(unsigned mask, uint64_t bits, int source, const char* file, int line) {
  if (mask != 0xFFFFFFFF) report("the emulator only knows operations of whole warps");
  running().bits = bits, running().source = source;
  leave(State::in_warp, file, line);
  return running().bits;
}

}  // namespace emulated

extern "C" int32_t aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = emulated::kStream;
  return 0;
}

// For Python: what was wrong since the last call.
extern "C" __attribute__((visibility("default"))) const char* emulated_faults() {
  static std::string found;
  found.swap(emulated::faults);
  emulated::faults.clear();
  return found.c_str();
}

// For Python: the number of launches.
extern "C" __attribute__((visibility("default"))) int64_t emulated_launches() {
  return emulated::now.launch;
}
