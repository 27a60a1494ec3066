// A map of 3x3 convolution cut into tiles of 4x4 outputs, and copies between maps and lines of tiles.

#pragma once

#include <algorithm>
#include <vector>

#include "transforms.h"

namespace d2ext {

struct WinogradShape {
  int64_t batch, channels, height, width, out_channels, padding;

  int64_t out_height() const { return height + 2 * padding - kTaps + 1; }
  int64_t out_width() const { return width + 2 * padding - kTaps + 1; }
  int64_t tile_rows() const { return (out_height() + kOutputs - 1) / kOutputs; }
  int64_t tile_columns() const { return (out_width() + kOutputs - 1) / kOutputs; }
  int64_t tiles() const { return batch * tile_rows() * tile_columns(); }
};

struct Tile {
  int64_t image, y, x;  // of the first output
};

inline std::vector<Tile> tiles_from(const WinogradShape& shape, int64_t first, int64_t count) {
  std::vector<Tile> tiles;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t row = i / shape.tile_columns();
    tiles.push_back(
        {row / shape.tile_rows(), row % shape.tile_rows() * kOutputs,
         i % shape.tile_columns() * kOutputs});
  }
  return tiles;
}

// One channel of all images, (B, H, W) with a distance between images.
template <typename T>
struct Plane {
  T* data;
  int64_t image_step, height, width;
};

// Copies Side x Side numbers of each tile into lines of tiles. They start `padding` before the
// tile's first output; zero stands for numbers beyond the plane.
template <int64_t Side, typename T>
void gather(
    const Plane<const T>& plane, const std::vector<Tile>& tiles, int64_t padding, T* lines) {
  for (const Tile& tile : tiles) {
    const int64_t y0 = tile.y - padding, x0 = tile.x - padding;
    const int64_t top = std::max<int64_t>(0, -y0), bottom = std::min(Side, plane.height - y0);
    const int64_t left = std::max<int64_t>(0, -x0), right = std::min(Side, plane.width - x0);
    if (bottom - top < Side || right - left < Side) {
      for (int64_t i = 0; i < Side * Side; ++i) lines[i * kPanel<T>] = 0;
    }
    const T* from = plane.data + tile.image * plane.image_step + y0 * plane.width + x0;
    for (int64_t i = top; i < bottom; ++i) {
      for (int64_t j = left; j < right; ++j) {
        lines[(i * Side + j) * kPanel<T>] = from[i * plane.width + j];
      }
    }
    ++lines;
  }
}

// Copies lines of tiles to the outputs of each tile that lie in the plane, and adds a bias.
template <typename T>
void scatter(const T* lines, const std::vector<Tile>& tiles, T bias, const Plane<T>& plane) {
  for (const Tile& tile : tiles) {
    T* to = plane.data + tile.image * plane.image_step + tile.y * plane.width + tile.x;
    const int64_t rows = std::min(kOutputs, plane.height - tile.y);
    const int64_t columns = std::min(kOutputs, plane.width - tile.x);
    for (int64_t i = 0; i < rows; ++i, to += plane.width) {
      for (int64_t j = 0; j < columns; ++j) {
        to[j] = lines[(i * kOutputs + j) * kPanel<T>] + bias;
      }
    }
    ++lines;
  }
}

}  // namespace d2ext
