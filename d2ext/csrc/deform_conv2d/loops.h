// The loops over channels of a deformable convolution on the CPU, where its time goes.
// They compute in T. Pixels and columns are in S: T or bfloat16.

#pragma once

#include <algorithm>
#include <vector>

#include "../vectors.h"
#include "geometry.h"

namespace d2ext {

// Some channels of a problem, all of its or within one group, and the pixels of these channels.
template <typename S>
struct Slice {
  int64_t begin, end;
  const S* pixels;  // (B, H, W, stride), the first being of channel `begin`
  int64_t stride;

  int64_t channels() const { return end - begin; }
};

// Channels that share an offset group and a convolution group.
struct Segment {
  int64_t begin, end;
  int64_t offset_group, group;
};

// Splits the channels at the borders of both kinds of groups and into at most `limit` at a time.
template <typename S>
std::vector<Segment> split_channels(
    const DeformConvShape& shape, const Slice<S>& slice, int64_t limit) {
  const int64_t in_offset_group = shape.channels / shape.offset_groups;
  std::vector<Segment> segments;
  for (int64_t begin = slice.begin; begin < slice.end; begin = segments.back().end) {
    const int64_t offset_group = begin / in_offset_group, group = begin / shape.group_channels();
    int64_t end = std::min(begin + limit, slice.end);
    end = std::min(end, (offset_group + 1) * in_offset_group);
    end = std::min(end, (group + 1) * shape.group_channels());
    segments.push_back({begin, end, offset_group, group});
  }
  return segments;
}

// Some rows (output locations) of a problem, and their columns: (rows, groups, taps, channels),
// for the groups and channels of a slice.
template <typename T, typename S>
struct Tile {
  int64_t first_row, rows;
  Sample<T>* samples;  // (rows, taps, offset groups)
  S* columns;
};

// Where the first channel of a segment stands in the columns.
template <typename S>
D2EXT_INLINE int64_t column_of(
    const DeformConvShape& shape, const Slice<S>& slice, const Segment& segment, int64_t row,
    int64_t tap) {
  const int64_t channels = std::min(slice.channels(), shape.group_channels());
  const int64_t place = segment.begin - slice.begin;
  const int64_t group = place / channels, channel = place % channels;
  return row * shape.taps() * slice.channels() + (group * shape.taps() + tap) * channels + channel;
}

// columns = mask * sum of weight * pixel, for the tile's rows from begin to end.
// `zeros` stands for pixels outside.
template <typename T, typename S>
D2EXT_INLINE void gather(
    const DeformConvShape& shape, const Slice<S>& slice, const Tile<T, S>& tile,
    const std::vector<Segment>& segments, const S* zeros, int64_t begin, int64_t end) {
  const int64_t plane = shape.out_height * shape.out_width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t number = (tile.first_row + row) / plane;
    const S* image = slice.pixels + number * shape.height * shape.width * slice.stride;
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      for (const Segment& segment : segments) {
        const Sample<T>& sample =
            tile.samples[(row * shape.taps() + tap) * shape.offset_groups + segment.offset_group];
        const S* corner[4];
        T weight[4];
        for (int i = 0; i < 4; ++i) {
          const int64_t at = sample.pixel[i] * slice.stride + segment.begin - slice.begin;
          corner[i] = sample.pixel[i] < 0 ? zeros : image + at;
          weight[i] = sample.weight[i] * sample.mask;
        }
        S* column = tile.columns + column_of(shape, slice, segment, row, tap);
        const int64_t count = segment.end - segment.begin;
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) {
          const T sum = weight[0] * load(corner[0] + c) + weight[1] * load(corner[1] + c) +
              weight[2] * load(corner[2] + c) + weight[3] * load(corner[3] + c);
          store(column + c, sum);
        }
      }
    }
  }
}

// For one segment of channels and all rows of a tile, whose columns are gradients: adds
// mask * weight * gradient to the gradients of the four pixels, (B, H, W, C), and leaves in
// `products` (rows, taps, 4) the scalar products of the gradient with the pixels. `bin` takes
// what falls outside.
template <typename T, typename S>
D2EXT_INLINE void scatter(
    const DeformConvShape& shape, const Slice<S>& slice, const Tile<T, S>& tile,
    const Segment& segment, const S* zeros, T* grad_pixels, T* bin, T* products) {
  const int64_t plane = shape.out_height * shape.out_width;
  const int64_t count = segment.end - segment.begin;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const int64_t image = (tile.first_row + row) / plane * shape.height * shape.width;
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      const int64_t line = row * shape.taps() + tap;
      const Sample<T>& sample = tile.samples[line * shape.offset_groups + segment.offset_group];
      const S* grad = tile.columns + column_of(shape, slice, segment, row, tap);
      const S* corner[4];
      T* target[4];
      T weight[4];
      for (int i = 0; i < 4; ++i) {
        const bool inside = sample.pixel[i] >= 0;
        const int64_t pixel = image + sample.pixel[i];
        const int64_t at = pixel * slice.stride + segment.begin - slice.begin;
        corner[i] = inside ? slice.pixels + at : zeros;
        target[i] = inside ? grad_pixels + pixel * shape.channels + segment.begin : bin;
        weight[i] = sample.weight[i] * sample.mask;
      }
      T product0 = 0, product1 = 0, product2 = 0, product3 = 0;
#pragma omp simd reduction(+ : product0, product1, product2, product3)
      for (int64_t c = 0; c < count; ++c) {
        const T value = load(grad + c);
        product0 += value * load(corner[0] + c);
        product1 += value * load(corner[1] + c);
        product2 += value * load(corner[2] + c);
        product3 += value * load(corner[3] + c);
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
      const DeformConvShape& shape, const Slice<S>& slice, const Tile<T, S>& tile,               \
      const std::vector<Segment>& segments, const S* zeros, int64_t begin, int64_t end) {        \
    gather<T, S>(shape, slice, tile, segments, zeros, begin, end);                               \
  }                                                                                              \
  D2EXT_VECTORS void scatter_rows(                                                               \
      const DeformConvShape& shape, const Slice<S>& slice, const Tile<T, S>& tile,               \
      const Segment& segment, const S* zeros, T* grad_pixels, T* bin, T* products) {             \
    scatter<T, S>(shape, slice, tile, segment, zeros, grad_pixels, bin, products);               \
  }

}  // namespace d2ext
