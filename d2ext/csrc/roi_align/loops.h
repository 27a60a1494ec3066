// Regions as lists of pixels with their weights in each bin, and the loops over channels.

#pragma once

#include <algorithm>
#include <vector>

#include "../vectors.h"
#include "geometry.h"

namespace d2ext {

// Channels computed together: of these a pixel is a row, which is a cache line and so few vectors
// that their sums stay in registers. Rows are padded with zeros.
template <typename T>
constexpr int64_t kLanes = 64 / sizeof(T);

// Pixels that are copied together where a region needs one of them.
constexpr int64_t kBlock = 16;

template <typename T>
struct Tap {
  int32_t pixel;
  T weight;
};

// A region's bins as weighted sums of pixels.
template <typename T>
struct RoiTaps {
  int64_t roi, image;
  std::vector<int64_t> ends;  // of each bin's taps
  std::vector<Tap<T>> taps;
};

// The samples of one bin, added up where they share pixels, if that is likely.
template <typename T>
class Bin {
 public:
  void clear() { samples_.clear(); }

  void add(const RoiSample<T>& sample) {
    if (!sample.inside) return;
    if (samples_.empty()) {
      first_y_ = last_y_ = sample.top, first_x_ = last_x_ = sample.left;
    }
    first_y_ = std::min(first_y_, sample.top), last_y_ = std::max(last_y_, sample.top);
    first_x_ = std::min(first_x_, sample.left), last_x_ = std::max(last_x_, sample.left);
    samples_.push_back(sample);
  }

  void append_to(std::vector<Tap<T>>& taps, int64_t map_width, T factor) {
    const int64_t height = last_y_ - first_y_ + 2, width = last_x_ - first_x_ + 2;
    if (height * width > 4 * int64_t(samples_.size())) return append_each(taps, map_width, factor);
    window_.assign(height * width, T(0));
    for (const RoiSample<T>& sample : samples_) {
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t row = sample.y(corner) - first_y_, column = sample.x(corner) - first_x_;
        window_[row * width + column] += sample.weight(corner) * factor;
      }
    }
    for (int64_t i = 0; i < height * width; ++i) {
      if (window_[i] == 0) continue;
      const int64_t pixel = (first_y_ + i / width) * map_width + first_x_ + i % width;
      taps.push_back({int32_t(pixel), window_[i]});
    }
  }

 private:
  void append_each(std::vector<Tap<T>>& taps, int64_t map_width, T factor) const {
    for (const RoiSample<T>& sample : samples_) {
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t pixel = sample.y(corner) * map_width + sample.x(corner);
        const T weight = sample.weight(corner) * factor;
        if (weight != 0) taps.push_back({int32_t(pixel), weight});
      }
    }
  }

  std::vector<RoiSample<T>> samples_;
  std::vector<T> window_;  // all pixels between the first and the last
  int32_t first_y_ = 0, last_y_ = 0, first_x_ = 0, last_x_ = 0;
};

template <typename T>
RoiTaps<T> taps_of(const Frame<T>& frame, const RoiAlignShape& shape, int64_t roi) {
  RoiTaps<T> found{roi, frame.image, {}, {}};
  const Grid grid = grid_of(frame, shape);
  const T factor = T(1) / T(std::max<int64_t>(grid.count(), 1));
  Bin<T> bin;
  found.taps.reserve(shape.bins() * std::min<int64_t>(4 * grid.count(), 16));
  for (int32_t number = 0; number < shape.bins(); ++number) {
    bin.clear();
    for (int32_t i = 0; i < grid.count(); ++i) {
      bin.add(sample_of(frame, grid, shape, number, i));
    }
    bin.append_to(found.taps, shape.width, factor);
    found.ends.push_back(int64_t(found.taps.size()));
  }
  return found;
}

// Some channels of one image: where they begin and how they are laid out.
template <typename S>
struct Slab {
  S* begin;
  int64_t lanes, channel_step, pixel_step;
};

// Pixels from begin to end as rows.
template <typename T, typename S>
D2EXT_INLINE void read_pixels(const Slab<const S>& slab, int64_t begin, int64_t end, T* rows) {
  if (slab.lanes < kLanes<T>) std::fill(rows + begin * kLanes<T>, rows + end * kLanes<T>, T(0));
  for (int64_t c = 0; c < slab.lanes; ++c) {
    const S* from = slab.begin + c * slab.channel_step;
    for (int64_t i = begin; i < end; ++i) rows[i * kLanes<T> + c] = load(from + i * slab.pixel_step);
  }
}

template <typename T>
D2EXT_INLINE void add_pixels(const T* rows, int64_t begin, int64_t end, const Slab<T>& slab) {
  for (int64_t c = 0; c < slab.lanes; ++c) {
    T* to = slab.begin + c * slab.channel_step;
    for (int64_t i = begin; i < end; ++i) to[i * slab.pixel_step] += rows[i * kLanes<T> + c];
  }
}

// bins = sums of weight * pixel, a row each.
template <typename T>
D2EXT_INLINE void gather(const RoiTaps<T>& roi, const T* rows, T* bins) {
  int64_t i = 0;
  for (const int64_t end : roi.ends) {
    T sum[kLanes<T>] = {};
    for (; i < end; ++i) {
      const T* row = rows + roi.taps[i].pixel * kLanes<T>;
      const T weight = roi.taps[i].weight;
#pragma omp simd
      for (int64_t c = 0; c < kLanes<T>; ++c) sum[c] += weight * row[c];
    }
    for (int64_t c = 0; c < kLanes<T>; ++c) bins[c] = sum[c];
    bins += kLanes<T>;
  }
}

// Adds weight * gradient of its bins to each pixel.
template <typename T>
D2EXT_INLINE void scatter(const RoiTaps<T>& roi, const T* grad_bins, T* grad_rows) {
  int64_t i = 0;
  for (const int64_t end : roi.ends) {
    for (; i < end; ++i) {
      T* row = grad_rows + roi.taps[i].pixel * kLanes<T>;
      const T weight = roi.taps[i].weight;
#pragma omp simd
      for (int64_t c = 0; c < kLanes<T>; ++c) row[c] += weight * grad_bins[c];
    }
    grad_bins += kLanes<T>;
  }
}

#define D2EXT_ROI_ALIGN_LOOPS(T)                                                            \
  D2EXT_VECTORS void gather_bins(const RoiTaps<T>& roi, const T* rows, T* bins) {           \
    gather(roi, rows, bins);                                                                \
  }                                                                                         \
  D2EXT_VECTORS void scatter_bins(const RoiTaps<T>& roi, const T* grad_bins, T* grad_rows) { \
    scatter(roi, grad_bins, grad_rows);                                                     \
  }                                                                                         \
  D2EXT_VECTORS void add_rows(                                                              \
      const T* rows, int64_t begin, int64_t end, const Slab<T>& slab) {                     \
    add_pixels(rows, begin, end, slab);                                                     \
  }

#define D2EXT_ROI_ALIGN_READING(T, S)                                                       \
  D2EXT_VECTORS void read_rows(                                                             \
      const Slab<const S>& slab, int64_t begin, int64_t end, T* rows) {                     \
    read_pixels(slab, begin, end, rows);                                                    \
  }

}  // namespace d2ext
