// The CUDA kernels of a deformable convolution: pixels to columns (im2col), and gradients of
// columns to gradients of pixels, offsets and masks. N channels are read and written at once.

#pragma once

#include "../cuda.h"
#include "geometry.h"

namespace d2ext {

constexpr int kThreads = 256;
constexpr int kChunk = 64;  // samples that a block finds at a time; a multiple of the warp size

// What a launch reads: pixels (B, H, W, C), offsets and masks as in the operator. Its tile is some
// rows (output locations), with columns (groups, rows, taps, C / groups).
template <typename T>
struct TileInput {
  const T* pixels;
  const Wide<T>* offsets;
  const Wide<T>* masks;  // or null
  int64_t first_row, rows;
  int group_channels, offset_channels;  // of a group and of an offset group
};

template <typename T>
struct FoundSample {
  Sample<T> sample;
  SamplePlace place;
  int64_t row;  // in the tile
  int channel;  // the first of its offset group
};

template <typename T>
__device__ inline int64_t column_of(
    const DeformConvShape& shape, const TileInput<T>& in, const FoundSample<Wide<T>>& found,
    int channel) {
  const int64_t group = channel / in.group_channels;
  const int64_t line = (group * in.rows + found.row) * shape.taps() + found.place.tap;
  return line * in.group_channels + channel % in.group_channels;
}

template <typename T>
__device__ inline int64_t pixel_of(
    const DeformConvShape& shape, const FoundSample<T>& found, int corner, int channel) {
  const int64_t image = found.place.image * shape.height * shape.width;
  return (image + found.sample.pixel[corner]) * shape.channels + channel;
}

// Finds the `count` samples of a tile from `first` on, one per thread, for all of the block to
// read.
template <typename T>
__device__ inline void look_up(
    const DeformConvShape& shape, const TileInput<T>& in, int64_t first, int count,
    FoundSample<Wide<T>>* found) {
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int64_t row = (first + i) / shape.row_samples();
    const int64_t number = (first + i) % shape.row_samples();
    const SamplePlace place = place_of(shape, in.first_row + row, number);
    const int channel = int(number % shape.offset_groups) * in.offset_channels;
    found[i] = {read_sample(shape, place, in.offsets, in.masks), place, row, channel};
  }
}

template <typename T, int N>
__device__ inline void gather_channels(
    const DeformConvShape& shape, const TileInput<T>& in, const FoundSample<Wide<T>>& found,
    int channel, T* columns) {
  Wide<T> sums[N] = {};
  for (int corner = 0; corner < 4; ++corner) {
    if (found.sample.pixel[corner] < 0) continue;
    const T* from = in.pixels + pixel_of(shape, found, corner, channel);
    const Pack<T, N> pixel = *reinterpret_cast<const Pack<T, N>*>(from);
    const Wide<T> weight = found.sample.weight[corner] * found.sample.mask;
    for (int i = 0; i < N; ++i) sums[i] += weight * Wide<T>(pixel.at[i]);
  }
  Pack<T, N> column;
  for (int i = 0; i < N; ++i) column.at[i] = T(sums[i]);
  T* to = columns + column_of(shape, in, found, channel);
  *reinterpret_cast<Pack<T, N>*>(to) = column;
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    gather(const DeformConvShape shape, const TileInput<T> in, T* columns) {
  __shared__ FoundSample<Wide<T>> found[kChunk];
  const int64_t total = in.rows * shape.row_samples();
  const int packs = in.offset_channels / N;
  const int64_t step = int64_t(gridDim.x) * kChunk;
  for (int64_t first = int64_t(blockIdx.x) * kChunk; first < total; first += step) {
    const int count = int(min(int64_t(kChunk), total - first));
    look_up(shape, in, first, count, found);
    __syncthreads();
    for (int i = threadIdx.x; i < count * packs; i += kThreads) {
      const FoundSample<Wide<T>>& sample = found[i / packs];
      gather_channels<T, N>(shape, in, sample, sample.channel + i % packs * N, columns);
    }
    __syncthreads();
  }
}

// Some channels of a sample from `first` on: `count` of them, of N * lanes that its lanes share.
struct SharedChannels {
  int first, count, lane, lanes;
};

// The gradients of those of the channels that a lane adds to, N or fewer.
template <typename T, int N>
__device__ inline void read_terms(
    const DeformConvShape& shape, const TileInput<T>& in, const FoundSample<Wide<T>>& found,
    const SharedChannels& channels, const T* grad_columns, Wide<T> (&terms)[N]) {
  // Channels of one group are neighbours; a division for each of the others would take long.
  const int in_group = in.group_channels - channels.first % in.group_channels;
  const T* group = grad_columns + column_of(shape, in, found, channels.first);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int place = place_of_term<Wide<T>, N>(i, channels.lane, channels.lanes);
    terms[i] = 0;
    if (place >= channels.count) continue;
    const T* grad = place < in_group
        ? group + place
        : grad_columns + column_of(shape, in, found, channels.first + place);
    terms[i] = Wide<T>(*grad);
  }
}

// Adds to the gradients of the four pixels, unless null.
template <typename T, int N>
__device__ inline void add_to_pixels(
    const DeformConvShape& shape, const TileInput<T>& in, const FoundSample<Wide<T>>& found,
    const SharedChannels& channels, const T* grad_columns, Wide<T>* grad_pixels) {
  if (!grad_pixels) return;
  Wide<T> grads[N], terms[N];
  read_terms<T, N>(shape, in, found, channels, grad_columns, grads);
  for (int corner = 0; corner < 4; ++corner) {
    if (found.sample.pixel[corner] < 0) continue;
    const Wide<T> weight = found.sample.weight[corner] * found.sample.mask;
    for (int i = 0; i < N; ++i) terms[i] = weight * grads[i];
    add_terms<Wide<T>, N>(
        grad_pixels + pixel_of(shape, found, corner, channels.first), terms, channels.lane,
        channels.lanes, channels.count);
  }
}

// Adds to the pixels' scalar products with the gradient, from which the gradients of offset and
// mask follow, the terms of N channels.
template <typename T, int N>
__device__ inline void add_products(
    const DeformConvShape& shape, const TileInput<T>& in, const FoundSample<Wide<T>>& found,
    int channel, const T* grad_columns, Wide<T>* products) {
  const T* at = grad_columns + column_of(shape, in, found, channel);
  const Pack<T, N> grad = *reinterpret_cast<const Pack<T, N>*>(at);
  for (int corner = 0; corner < 4; ++corner) {
    if (found.sample.pixel[corner] < 0) continue;
    const int64_t place = pixel_of(shape, found, corner, channel);
    const Pack<T, N> pixel = *reinterpret_cast<const Pack<T, N>*>(in.pixels + place);
    for (int i = 0; i < N; ++i) {
      products[corner] += Wide<T>(grad.at[i]) * Wide<T>(pixel.at[i]);
    }
  }
}

// `lanes` neighbours of a warp, a power of two, share the channels of a sample.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) scatter(
    const DeformConvShape shape, const TileInput<T> in, const T* grad_columns,
    Wide<T>* grad_pixels, Wide<T>* grad_offsets, Wide<T>* grad_masks, int lanes) {
  __shared__ FoundSample<Wide<T>> found[kChunk];
  const int64_t total = in.rows * shape.row_samples();
  const int64_t plane = shape.out_height * shape.out_width;
  const int lane = threadIdx.x % lanes;
  const int64_t step = int64_t(gridDim.x) * kChunk;
  for (int64_t first = int64_t(blockIdx.x) * kChunk; first < total; first += step) {
    const int count = int(min(int64_t(kChunk), total - first));
    look_up(shape, in, first, count, found);
    __syncthreads();
    // Up to kChunk, not count: the lanes of a warp add up together.
    for (int i = threadIdx.x / lanes; i < kChunk; i += kThreads / lanes) {
      Wide<T> products[4] = {};
      for (int done = 0; i < count && done < in.offset_channels; done += lanes * N) {
        const int channel = found[i].channel + done, left = in.offset_channels - done;
        const SharedChannels channels{channel, min(left, lanes * N), lane, lanes};
        add_to_pixels<T, N>(shape, in, found[i], channels, grad_columns, grad_pixels);
        if (lane * N >= left) continue;
        add_products<T, N>(shape, in, found[i], channel + lane * N, grad_columns, products);
      }
      for (int corner = 0; corner < 4; ++corner) {
        products[corner] = warp_sum(products[corner], lanes);
      }
      if (i >= count || lane != 0) continue;
      const SampleGradient<Wide<T>> gradient = sample_gradient(found[i].sample, products);
      grad_offsets[found[i].place.offset_index] = gradient.y;
      grad_offsets[found[i].place.offset_index + plane] = gradient.x;
      if (grad_masks) grad_masks[found[i].place.mask_index] = gradient.mask;
    }
    __syncthreads();
  }
}

// rows += terms, for each row.
template <typename T>
__global__ void add_bias(int64_t count, int64_t channels, const T* terms, T* rows) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    rows[i] = T(Wide<T>(rows[i]) + Wide<T>(terms[i % channels]));
  }
}

template <typename T>
__global__ void add_to(int64_t count, const T* terms, Wide<T>* sums) {
  for (int64_t i = first_item(); i < count; i += item_step()) sums[i] += Wide<T>(terms[i]);
}

}  // namespace d2ext
