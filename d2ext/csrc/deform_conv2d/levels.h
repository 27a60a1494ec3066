// The backward pass of a deformable convolution on the CPU over the levels of a pyramid: which thread
// adds what to the gradients. Threads share the channels, so that no two add to one gradient of a
// pixel: with the same number of threads every run gives the same bits.

#pragma once

#include <vector>

#include "../types.h"
#include "operands.h"

namespace d2ext {
namespace {

D2EXT_DEFORM_CONV2D_LOOPS(float)
D2EXT_DEFORM_CONV2D_LOOPS(double)

// Rows and channels sampled at a time: 96 kB of float, which stays in the second-level cache.
constexpr int64_t kRows = 96;
constexpr int64_t kDepth = 256;
constexpr int64_t kLeastChannels = 16;  // fewer are not worth a thread
constexpr int64_t kGrain = 1 << 18;  // fewer multiplications are not worth a thread

// What a worker adds to. Channels belong to one worker; offsets and masks are shared by all, so
// each has its own sums of them.
template <typename T>
struct Sums {
  T *pixels, *offsets, *masks;
};

// A level as a worker sees it. The gradient of the output is in rows, (rows, C'), or elsewhere.
template <typename T>
struct LevelBack {
  const Operands<T>* in;
  const T* grad_rows;
  Sums<T> sums;
};

template <typename T>
Sums<T> sums_of(const Gradients& grads) {
  return {
      grads.pixels.mutable_data_ptr<T>(), grads.offsets.mutable_data_ptr<T>(),
      grads.masks.mutable_data_ptr<T>()};
}

// Adds the gradients of offsets and masks that follow from the samples' scalar products.
template <typename T>
void add_positions(
    const Operands<T>& in, const Samples<T>& samples, const T* products, const Sums<T>& sums) {
  const int64_t plane = in.shape.out_height * in.shape.out_width;
  for (int64_t i = 0; i < samples.rows; ++i) {
    const SampleGradient<T> grad = sample_gradient(samples.found[i], products + 4 * i);
    const SamplePlace place = samples.place(in.shape, i);
    sums.offsets[place.offset_index] += grad.y;
    sums.offsets[place.offset_index + plane] += grad.x;
    if (in.masks()) sums.masks[place.mask_index] += grad.mask;
  }
}

// Splits the channels so that each thread has a segment, of `most` channels or fewer.
inline std::vector<Segment> segments_for(const DeformConvShape& shape, int64_t most) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t share = quotient_above(shape.channels, threads * kLeastChannels);
  return split_channels(shape, std::min(share * kLeastChannels, most));
}

// The sums of offsets and masks of all workers but the first, (workers - 1, offsets + masks).
template <typename T>
class Shares {
 public:
  Shares(const Operands<T>& in, const Gradients& grads, int64_t workers)
      : first_(sums_of<T>(grads)),
        workers_(workers),
        offsets_(grads.offsets.numel()),
        masks_(grads.masks.numel()),
        more_(in.zeros({workers - 1, offsets_ + masks_})) {}

  Sums<T> of(int64_t worker) const {
    if (worker == 0) return first_;
    T* offsets = more() + (worker - 1) * (offsets_ + masks_);
    return {first_.pixels, offsets, offsets + offsets_};
  }

  void add_up() const {
    add(offsets_, more(), first_.offsets);
    add(masks_, more() + offsets_, first_.masks);
  }

 private:
  T* more() const { return more_.template mutable_data_ptr<T>(); }

  void add(int64_t count, const T* shares, T* sums) const {
    torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t worker = 0; worker + 1 < workers_; ++worker) {
        for (int64_t i = begin; i < end; ++i) sums[i] += shares[worker * (offsets_ + masks_) + i];
      }
    });
  }

  const Sums<T> first_;
  const int64_t workers_, offsets_, masks_;
  const Tensor more_;
};

// Calls `run(levels, segments)` for some of the segments by each worker, with its own sums.
template <typename T, typename F>
void share_segments(
    const std::vector<Segment>& segments, const std::vector<LevelBack<T>>& levels,
    const std::vector<Gradients>& grads, const F& run) {
  const int64_t count = segments.size();
  const int64_t workers = std::min<int64_t>(torch::stable::get_num_threads(), count);
  std::vector<Shares<T>> shares;
  for (size_t i = 0; i < levels.size(); ++i) shares.emplace_back(*levels[i].in, grads[i], workers);
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      std::vector<LevelBack<T>> own = levels;
      for (size_t i = 0; i < own.size(); ++i) own[i].sums = shares[i].of(worker);
      run(own, std::vector<Segment>(
                   segments.begin() + count * worker / workers,
                   segments.begin() + count * (worker + 1) / workers));
    }
  });
  for (const Shares<T>& each : shares) each.add_up();
}

}  // namespace
}  // namespace d2ext
