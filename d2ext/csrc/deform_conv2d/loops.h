// The loops over channels of a deformable convolution on the CPU, where its time goes.
// They compute in T. Columns, which only matrix products read, are in S: T or bfloat16.

#pragma once

#include <algorithm>
#include <vector>

#include "../vectors.h"
#include "geometry.h"

namespace d2ext {

// Channels that share an offset group and a convolution group.
struct Segment {
  int64_t begin, end;
  int64_t offset_group, group;
};

// Splits the channels at the borders of both kinds of groups and into at most `limit` at a time.
inline std::vector<Segment> split_channels(const DeformConvShape& shape, int64_t limit) {
  const int64_t in_offset_group = shape.channels / shape.offset_groups;
  std::vector<Segment> segments;
  for (int64_t begin = 0; begin < shape.channels; begin = segments.back().end) {
    const int64_t offset_group = begin / in_offset_group, group = begin / shape.group_channels();
    int64_t end = begin + limit;
    end = std::min(end, (offset_group + 1) * in_offset_group);
    end = std::min(end, (group + 1) * shape.group_channels());
    segments.push_back({begin, end, offset_group, group});
  }
  return segments;
}

// Some rows (output locations) of a problem, and their columns: (groups, rows, taps, C / groups).
template <typename T, typename S>
struct Tile {
  int64_t first_row, rows;
  Sample<T>* samples;  // (rows, taps, offset groups)
  S* columns;
  S* grad_columns;
};

template <typename T, typename S>
D2EXT_INLINE int64_t column_of(
    const DeformConvShape& shape, const Tile<T, S>& tile, const Segment& segment, int64_t row,
    int64_t tap) {
  const int64_t line = (segment.group * tile.rows + row) * shape.taps() + tap;
  return line * shape.group_channels() + segment.begin - segment.group * shape.group_channels();
}

// columns = mask * sum of weight * pixel, for the tile's rows from begin to end.
// `pixels` is (B, H, W, C), `zeros` stands for pixels outside and holds C zeros.
template <typename T, typename S>
D2EXT_INLINE void gather(
    const DeformConvShape& shape, const Tile<T, S>& tile, const std::vector<Segment>& segments,
    const T* pixels, const T* zeros, int64_t begin, int64_t end) {
  const int64_t plane = shape.out_height * shape.out_width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t number = (tile.first_row + row) / plane;
    const T* image = pixels + number * shape.height * shape.width * shape.channels;
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      for (const Segment& segment : segments) {
        const Sample<T>& sample =
            tile.samples[(row * shape.taps() + tap) * shape.offset_groups + segment.offset_group];
        const T* corner[4];
        T weight[4];
        for (int i = 0; i < 4; ++i) {
          const int64_t pixel = sample.pixel[i];
          corner[i] = (pixel < 0 ? zeros : image + pixel * shape.channels) + segment.begin;
          weight[i] = sample.weight[i] * sample.mask;
        }
        S* column = tile.columns + column_of(shape, tile, segment, row, tap);
        const int64_t count = segment.end - segment.begin;
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) {
          const T sum = weight[0] * corner[0][c] + weight[1] * corner[1][c] +
              weight[2] * corner[2][c] + weight[3] * corner[3][c];
          store(column + c, sum);
        }
      }
    }
  }
}

// For one segment of channels and the tile's rows from begin to end: adds mask * weight * gradient
// to the gradients of the four pixels, and leaves in `products` (rows, taps, 4) the scalar
// products of the gradient with the pixels. `bin` takes what falls outside.
template <typename T, typename S>
D2EXT_INLINE void scatter(
    const DeformConvShape& shape, const Tile<T, S>& tile, const Segment& segment, const T* pixels,
    const T* zeros, T* grad_pixels, T* bin, T* products, int64_t begin, int64_t end) {
  const int64_t plane = shape.out_height * shape.out_width;
  const int64_t count = segment.end - segment.begin;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = (tile.first_row + row) / plane * shape.height * shape.width;
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      const int64_t line = row * shape.taps() + tap;
      const Sample<T>& sample = tile.samples[line * shape.offset_groups + segment.offset_group];
      const S* grad = tile.grad_columns + column_of(shape, tile, segment, row, tap);
      const T* corner[4];
      T* target[4];
      T weight[4];
      for (int i = 0; i < 4; ++i) {
        const bool inside = sample.pixel[i] >= 0;
        const int64_t at = (image + sample.pixel[i]) * shape.channels + segment.begin;
        corner[i] = inside ? pixels + at : zeros;
        target[i] = inside ? grad_pixels + at : bin;
        weight[i] = sample.weight[i] * sample.mask;
      }
      T product0 = 0, product1 = 0, product2 = 0, product3 = 0;
#pragma omp simd reduction(+ : product0, product1, product2, product3)
      for (int64_t c = 0; c < count; ++c) {
        const T value = load(grad + c);
        product0 += value * corner[0][c];
        product1 += value * corner[1][c];
        product2 += value * corner[2][c];
        product3 += value * corner[3][c];
      }
      for (int i = 0; i < 4; ++i) {
        T* sum = target[i];
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) sum[c] += weight[i] * load(grad + c);
      }
      T* product = products + line * 4;
      product[0] = product0, product[1] = product1, product[2] = product2, product[3] = product3;
    }
  }
}

#define D2EXT_DEFORM_CONV2D_LOOPS(T, S)                                                          \
  D2EXT_VECTORS void gather_rows(                                                                \
      const DeformConvShape& shape, const Tile<T, S>& tile,                                      \
      const std::vector<Segment>& segments, const T* pixels, const T* zeros, int64_t begin,      \
      int64_t end) {                                                                             \
    gather<T, S>(shape, tile, segments, pixels, zeros, begin, end);                              \
  }                                                                                              \
  D2EXT_VECTORS void scatter_rows(                                                               \
      const DeformConvShape& shape, const Tile<T, S>& tile, const Segment& segment,              \
      const T* pixels, const T* zeros, T* grad_pixels, T* bin, T* products, int64_t begin,       \
      int64_t end) {                                                                             \
    scatter<T, S>(shape, tile, segment, pixels, zeros, grad_pixels, bin, products, begin, end);  \
  }

}  // namespace d2ext
