// The arithmetic of one sample of multi-scale deformable attention: which pixels it reads, and how
// much of each.

#pragma once

#include <cmath>
#include <cstdint>
#include <torch/headeronly/macros/Macros.h>
#include <vector>

namespace d2ext {

// The maps of one scale: their size, and the number of their first pixel among those of all levels.
struct Level {
  int64_t height, width, first;
};

// From the height and width of the first level, then of the second, and so on.
inline std::vector<Level> levels_of(const std::vector<int64_t>& spatial_shapes) {
  std::vector<Level> levels;
  int64_t first = 0;
  for (size_t i = 0; i + 1 < spatial_shapes.size(); i += 2) {
    levels.push_back({spatial_shapes[i], spatial_shapes[i + 1], first});
    first += spatial_shapes[i] * spatial_shapes[i + 1];
  }
  return levels;
}

// Between which rows and columns of pixels a sample lies. Those numbered -1, height and width are
// outside, where zeros lie; a sample that has none inside on all four sides reads nothing.
template <typename T>
struct LevelSample {
  bool reads;
  int64_t top, left;
  T down, right;  // shares of the lower row and of the right column

  // Upper left, upper right, lower left, lower right.
  C10_HOST_DEVICE T share(int corner) const {
    return (corner / 2 ? down : 1 - down) * (corner % 2 ? right : 1 - right);
  }
};

// From a location in parts of the map's width and height.
template <typename T>
C10_HOST_DEVICE inline LevelSample<T> level_sample(const Level& level, T x, T y) {
  const T column = x * T(level.width) - T(0.5), row = y * T(level.height) - T(0.5);
  LevelSample<T> sample{};
  sample.reads = row > -1 && column > -1 && row < T(level.height) && column < T(level.width);
  if (!sample.reads) return sample;  // before a cast that may not fit
  const T top = std::floor(row), left = std::floor(column);
  sample.top = int64_t(top), sample.left = int64_t(left);
  sample.down = row - top, sample.right = column - left;
  return sample;
}

template <typename T>
struct LevelSampleGradient {
  T x, y, weight;
};

// Gradients of one sample, from the scalar products (over channels) of the gradient with its four
// pixels, zero for those outside, and from the sample's attention weight.
template <typename T>
C10_HOST_DEVICE inline LevelSampleGradient<T> level_sample_gradient(
    const Level& level, const LevelSample<T>& sample, T weight, const T* products) {
  const T up = 1 - sample.down, left = 1 - sample.right;
  const T upper = left * products[0] + sample.right * products[1];
  const T lower = left * products[2] + sample.right * products[3];
  const T across =
      up * (products[1] - products[0]) + sample.down * (products[3] - products[2]);
  return {
      weight * T(level.width) * across, weight * T(level.height) * (lower - upper),
      up * upper + sample.down * lower};
}

}  // namespace d2ext
