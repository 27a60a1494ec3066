// The loops over channels of a depthwise convolution on the CPU. Channels are computed in blocks of
// kLanes, which fill a line of the cache, with the sums of some pixels or of some taps in registers.

#pragma once

#include <algorithm>

#include "../vectors.h"

namespace d2ext {

template <typename T>
constexpr int64_t kLanes = kLineBytes / sizeof(T);

// A row of pixels, (blocks, pixels, kLanes), with other numbers in between.
template <typename T>
struct Row {
  T* data;
  int64_t blocks, count;
  int64_t block_step, step;  // numbers from one block and from one pixel to the next
};

// What a tap of the kernel reads for the first pixel of the first block, and its weights there.
template <typename T>
struct TapOperands {
  const T* pixels;
  const T* weights;
};

// The taps of a row, and how many numbers lie from one block and from one pixel to the next.
template <typename T>
struct Taps {
  const TapOperands<T>* data;
  int64_t count;
  int64_t block_step, step, weights_step;
};

// Some lanes of Count pixels: start + sum over taps of weight * pixel. Places are numbers to skip.
template <typename T, int Bytes, int Count>
D2EXT_INLINE void sum_tile(
    const Taps<T>& taps, int64_t place, int64_t weights_place, const T* start, T* sums,
    int64_t sums_step) {
  using V = typename Vector<T, Bytes>::type;
  V found[Count];
  D2EXT_UNROLL
  for (int i = 0; i < Count; ++i) std::memcpy(&found[i], start, sizeof(V));
  for (int64_t tap = 0; tap < taps.count; ++tap) {
    V weight, value;
    std::memcpy(&weight, taps.data[tap].weights + weights_place, sizeof(V));
    const T* pixel = taps.data[tap].pixels + place;
    D2EXT_UNROLL
    for (int i = 0; i < Count; ++i, pixel += taps.step) {
      std::memcpy(&value, pixel, sizeof(V));
      found[i] += weight * value;
    }
  }
  D2EXT_UNROLL
  for (int i = 0; i < Count; ++i, sums += sums_step) std::memcpy(sums, &found[i], sizeof(V));
}

// The same for `count` pixels, at most Count.
template <typename T, int Bytes, int Count>
D2EXT_INLINE void sum_pixels(
    int64_t count, const Taps<T>& taps, int64_t place, int64_t weights_place, const T* start,
    T* sums, int64_t sums_step) {
  if constexpr (Count > 0) {
    if (count == Count) {
      sum_tile<T, Bytes, Count>(taps, place, weights_place, start, sums, sums_step);
    } else {
      sum_pixels<T, Bytes, Count - 1>(
          count, taps, place, weights_place, start, sums, sums_step);
    }
  }
}

// Some lanes of Count taps: sums (taps, kLanes) += sum over pixels of gradient * pixel.
template <typename T, int Bytes, int Count>
D2EXT_INLINE void multiply_tile(
    const TapOperands<T>* taps, int64_t place, int64_t step, const T* grads,
    const Row<const T>& row, T* sums) {
  using V = typename Vector<T, Bytes>::type;
  V found[Count];
  const T* pixel[Count];
  D2EXT_UNROLL
  for (int i = 0; i < Count; ++i) {
    std::memcpy(&found[i], sums + i * kLanes<T>, sizeof(V));
    pixel[i] = taps[i].pixels + place;
  }
  for (int64_t x = 0; x < row.count; ++x) {
    V grad, value;
    std::memcpy(&grad, grads + x * row.step, sizeof(V));
    D2EXT_UNROLL
    for (int i = 0; i < Count; ++i) {
      std::memcpy(&value, pixel[i] + x * step, sizeof(V));
      found[i] += grad * value;
    }
  }
  D2EXT_UNROLL
  for (int i = 0; i < Count; ++i) std::memcpy(sums + i * kLanes<T>, &found[i], sizeof(V));
}

// The same for `count` taps, at most Count.
template <typename T, int Bytes, int Count>
D2EXT_INLINE void multiply_taps(
    int64_t count, const TapOperands<T>* taps, int64_t place, int64_t step, const T* grads,
    const Row<const T>& row, T* sums) {
  if constexpr (Count > 0) {
    if (count == Count) {
      multiply_tile<T, Bytes, Count>(taps, place, step, grads, row, sums);
    } else {
      multiply_taps<T, Bytes, Count - 1>(count, taps, place, step, grads, row, sums);
    }
  }
}

// As many sums as stay in registers beside the operands, of which AVX2 has 16.
constexpr int64_t kMostPixels = 14, kMostTaps = 9;

// The first item of one of the parts of `count` items. They are as equal as can be: sums of few
// items would wait for themselves.
D2EXT_INLINE int64_t first_of(int64_t part, int64_t parts, int64_t count) {
  return count * part / parts;
}

// sums = start (blocks, kLanes) + sum over taps of weight * pixel.
template <typename T, int Bytes>
D2EXT_INLINE void sum_lanes(const Taps<T>& taps, const T* start, const Row<T>& sums) {
  constexpr int64_t lanes = sizeof(typename Vector<T, Bytes>::type) / sizeof(T);
  const int64_t parts = (sums.count + kMostPixels - 1) / kMostPixels;
  for (int64_t block = 0; block < sums.blocks; ++block) {
    for (int64_t lane = 0; lane < kLanes<T>; lane += lanes) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = first_of(part, parts, sums.count);
        sum_pixels<T, Bytes, kMostPixels>(
            first_of(part + 1, parts, sums.count) - first, taps,
            block * taps.block_step + first * taps.step + lane, block * taps.weights_step + lane,
            start + block * kLanes<T> + lane,
            sums.data + block * sums.block_step + first * sums.step + lane, sums.step);
      }
    }
  }
}

// sums (blocks, taps, kLanes) += sum over pixels of gradient * pixel.
template <typename T, int Bytes>
D2EXT_INLINE void multiply_lanes(const Taps<T>& taps, const Row<const T>& grads, T* sums) {
  constexpr int64_t lanes = sizeof(typename Vector<T, Bytes>::type) / sizeof(T);
  const int64_t parts = (taps.count + kMostTaps - 1) / kMostTaps;
  for (int64_t block = 0; block < grads.blocks; ++block) {
    for (int64_t lane = 0; lane < kLanes<T>; lane += lanes) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = first_of(part, parts, taps.count);
        multiply_taps<T, Bytes, kMostTaps>(
            first_of(part + 1, parts, taps.count) - first, taps.data + first,
            block * taps.block_step + lane, taps.step,
            grads.data + block * grads.block_step + lane, grads,
            sums + (block * taps.count + first) * kLanes<T> + lane);
      }
    }
  }
}

#if defined(__x86_64__) && defined(__GNUC__)
template <typename T>
__attribute__((target("avx512f"))) void sum_avx512(
    const Taps<T>& taps, const T* start, const Row<T>& sums) {
  sum_lanes<T, 64>(taps, start, sums);
}

template <typename T>
__attribute__((target("avx2,fma"))) void sum_avx2(
    const Taps<T>& taps, const T* start, const Row<T>& sums) {
  sum_lanes<T, 32>(taps, start, sums);
}

template <typename T>
__attribute__((target("avx512f"))) void multiply_avx512(
    const Taps<T>& taps, const Row<const T>& grads, T* sums) {
  multiply_lanes<T, 64>(taps, grads, sums);
}

template <typename T>
__attribute__((target("avx2,fma"))) void multiply_avx2(
    const Taps<T>& taps, const Row<const T>& grads, T* sums) {
  multiply_lanes<T, 32>(taps, grads, sums);
}
#endif

template <typename T>
void sum_row(const Taps<T>& taps, const T* start, const Row<T>& sums) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f")) return sum_avx512(taps, start, sums);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return sum_avx2(taps, start, sums);
  }
#endif
  sum_lanes<T, 16>(taps, start, sums);
}

template <typename T>
void multiply_row(const Taps<T>& taps, const Row<const T>& grads, T* sums) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f")) return multiply_avx512(taps, grads, sums);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return multiply_avx2(taps, grads, sums);
  }
#endif
  multiply_lanes<T, 16>(taps, grads, sums);
}

// Copies pixels, (pixels, channels), to a row; lanes that do not exist become zeros.
template <typename T, typename S>
D2EXT_INLINE void read_pixels(const S* from, int64_t channels, const Row<T>& row) {
  const int64_t whole = channels / kLanes<T>, rest = channels % kLanes<T>;
  for (int64_t i = 0; i < row.count; ++i, from += channels) {
    T* to = row.data + i * row.step;
    for (int64_t block = 0; block < whole; ++block) {
      for (int64_t c = 0; c < kLanes<T>; ++c) {
        to[block * row.block_step + c] = load(from + block * kLanes<T> + c);
      }
    }
    if (rest == 0) continue;
    std::fill_n(to + whole * row.block_step, kLanes<T>, T(0));
    for (int64_t c = 0; c < rest; ++c) {
      to[whole * row.block_step + c] = load(from + whole * kLanes<T> + c);
    }
  }
}

// Copies a row to pixels, (pixels, channels).
template <typename T, typename S>
D2EXT_INLINE void write_pixels(const Row<T>& row, int64_t channels, S* to) {
  const int64_t whole = channels / kLanes<T>, rest = channels % kLanes<T>;
  for (int64_t i = 0; i < row.count; ++i, to += channels) {
    const T* from = row.data + i * row.step;
    for (int64_t block = 0; block < whole; ++block) {
      for (int64_t c = 0; c < kLanes<T>; ++c) {
        store(to + block * kLanes<T> + c, from[block * row.block_step + c]);
      }
    }
    for (int64_t c = 0; c < rest; ++c) {
      store(to + whole * kLanes<T> + c, from[whole * row.block_step + c]);
    }
  }
}

#define D2EXT_DEPTHWISE_COPIES(T, S)                                                  \
  D2EXT_VECTORS void read_row(const S* from, int64_t channels, const Row<T>& row) {   \
    read_pixels(from, channels, row);                                                 \
  }                                                                                   \
  D2EXT_VECTORS void write_row(const Row<T>& row, int64_t channels, S* to) {          \
    write_pixels(row, channels, to);                                                  \
  }

}  // namespace d2ext
