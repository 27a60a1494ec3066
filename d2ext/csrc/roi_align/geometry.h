// Where region of interest (RoI) align reads a map: upright and rotated regions differ only in
// how their frames are found.

#pragma once

#include <cmath>
#include <cstdint>
#include <torch/headeronly/macros/Macros.h>

namespace d2ext {

struct RoiAlignShape {
  int64_t batch, channels, height, width;  // of the maps
  int64_t rois, pooled_height, pooled_width;
  int64_t sampling_ratio;  // samples along a side of a bin; 0 or less: about one a pixel

  C10_HOST_DEVICE int64_t bins() const { return pooled_height * pooled_width; }
  C10_HOST_DEVICE int64_t pixels() const { return height * width; }
};

// A region in pixels of the map, whose first pixel has its centre at 0; counter-clockwise.
template <typename T>
struct Frame {
  int64_t image;
  T center_y, center_x, height, width, cos, sin;
};

// Rows of 6: image, XY of the centre, width, height, degrees.
struct Rotated {
  static constexpr int64_t kColumns = 6;

  template <typename T>
  C10_HOST_DEVICE Frame<T> frame_of(const T* roi, T scale) const {
    const T angle = roi[5] * T(3.14159265358979323846 / 180);
    return {int64_t(roi[0]), roi[2] * scale - T(0.5), roi[1] * scale - T(0.5), roi[4] * scale,
            roi[3] * scale, std::cos(angle), std::sin(angle)};
  }
};

// Rows of 5: image, XYXY. What is not aligned is half a pixel off, and at least a pixel large.
struct Upright {
  static constexpr int64_t kColumns = 5;
  bool aligned;

  template <typename T>
  C10_HOST_DEVICE Frame<T> frame_of(const T* roi, T scale) const {
    const T left = roi[1] * scale, top = roi[2] * scale, shift = aligned ? T(0.5) : T(0);
    T width = roi[3] * scale - left, height = roi[4] * scale - top;
    if (!aligned && width < 1) width = 1;
    if (!aligned && height < 1) height = 1;
    return {int64_t(roi[0]), top + height / 2 - shift, left + width / 2 - shift, height, width,
            T(1), T(0)};
  }
};

// The samples of each bin are a grid. In 32 bits, for GPUs divide 64 bits many times slower.
struct Grid {
  int32_t rows, columns;  // at most kMostSamples

  C10_HOST_DEVICE int32_t count() const { return rows * columns; }
};

// The most samples along a side of a region whose size sets their number: the work for a region is
// bounded, however large the numbers of a bad one are.
constexpr int64_t kMostSamples = 1024;

template <typename T>
C10_HOST_DEVICE inline int32_t samples_along(T side, int64_t bins, int64_t sampling_ratio) {
  if (sampling_ratio > 0) return int32_t(sampling_ratio);
  if (!(side > 0)) return 0;  // NaN, too
  const T sampled = side < T(kMostSamples) ? side : T(kMostSamples);
  return int32_t(std::ceil(sampled / T(bins)));
}

template <typename T>
C10_HOST_DEVICE inline Grid grid_of(const Frame<T>& frame, const RoiAlignShape& shape) {
  return {samples_along(frame.height, shape.pooled_height, shape.sampling_ratio),
          samples_along(frame.width, shape.pooled_width, shape.sampling_ratio)};
}

// The upper left one of the four pixels around a sample, and the shares of its neighbours. At the
// map's end the neighbour is the pixel itself. Outside, beyond a pixel from it, is nothing.
template <typename T>
struct RoiSample {
  bool inside;
  int32_t top, left, down, right;  // down and right are 0 or 1
  T share_down, share_right;

  C10_HOST_DEVICE T weight(int corner) const {
    return (corner / 2 ? share_down : 1 - share_down) * (corner % 2 ? share_right : 1 - share_right);
  }

  C10_HOST_DEVICE int32_t y(int corner) const { return corner / 2 ? top + down : top; }
  C10_HOST_DEVICE int32_t x(int corner) const { return corner % 2 ? left + right : left; }
};

template <typename T>
C10_HOST_DEVICE inline void split_position(
    T position, int64_t size, int32_t* whole, int32_t* step, T* share) {
  const T inside = position > 0 ? position : T(0);
  const bool at_end = inside >= T(size - 1);
  *whole = at_end ? int32_t(size - 1) : int32_t(inside);
  *step = at_end ? 0 : 1;
  *share = at_end ? T(0) : inside - T(*whole);
}

template <typename T>
C10_HOST_DEVICE inline RoiSample<T> sample_of(
    const Frame<T>& frame, const Grid& grid, const RoiAlignShape& shape, int32_t bin,
    int32_t number) {
  const int32_t bins_x = int32_t(shape.pooled_width), bin_y = bin / bins_x, bin_x = bin % bins_x;
  const T step_y = T(bin_y) + (T(number / grid.columns) + T(0.5)) / T(grid.rows);
  const T step_x = T(bin_x) + (T(number % grid.columns) + T(0.5)) / T(grid.columns);
  const T along_y = (step_y / T(shape.pooled_height) - T(0.5)) * frame.height;
  const T along_x = (step_x / T(shape.pooled_width) - T(0.5)) * frame.width;
  const T y = frame.center_y + along_y * frame.cos - along_x * frame.sin;
  const T x = frame.center_x + along_y * frame.sin + along_x * frame.cos;
  RoiSample<T> sample{};
  sample.inside = y >= -1 && y <= T(shape.height) && x >= -1 && x <= T(shape.width);
  if (!sample.inside) return sample;
  split_position(y, shape.height, &sample.top, &sample.down, &sample.share_down);
  split_position(x, shape.width, &sample.left, &sample.right, &sample.share_right);
  return sample;
}

}  // namespace d2ext
