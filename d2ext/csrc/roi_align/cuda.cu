// RoI align on CUDA. A block takes 32 channels of a region, and its warps take bins. Each lane
// finds one sample, of one of several bins if these have few; then, sample by sample, each lane
// reads one channel, so that reads are coalesced. Bins pass through shared memory, so that they are read and written in the order of the
// output.

#include <cassert>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../cuda.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int kWarps = 8;
constexpr int kBins = 64;  // that pass at a time
constexpr int kMostBins = 8;  // that a warp takes at a time: all warps have some of kBins

template <typename W>
struct CornerList {
  int32_t pixel[4];
  W weight[4];
};

template <typename W>
struct Shared {
  W bins[kBins][kWarp + 1];  // one more than lanes, or all of a column would be in one bank
  CornerList<W> samples[kWarps][kWarp];
};

// A region's share of the work of a block.
template <typename W>
struct Region {
  int64_t roi, first_channel;
  Frame<W> frame;
  Grid grid;
  W factor;
};

__device__ inline int64_t slabs_of(const RoiAlignShape& shape) {
  return (shape.channels + kWarp - 1) / kWarp;
}

template <typename W, typename Kind>
__device__ inline Region<W> region_of(
    const RoiAlignShape& shape, const W* rois, const Kind& kind, W scale, int64_t item) {
  Region<W> region;
  region.roi = item / slabs_of(shape);
  region.first_channel = item % slabs_of(shape) * kWarp;
  region.frame = kind.frame_of(rois + region.roi * Kind::kColumns, scale);
  assert(region.frame.image >= 0 && region.frame.image < shape.batch);
  region.grid = grid_of(region.frame, shape);
  region.factor = W(1) / W(region.grid.count() > 0 ? region.grid.count() : 1);
  return region;
}

template <typename W>
__device__ inline CornerList<W> corners_of(
    const RoiAlignShape& shape, const Region<W>& region, int bin, int number) {
  const RoiSample<W> sample = sample_of(region.frame, region.grid, shape, bin, number);
  CornerList<W> list;
  for (int corner = 0; corner < 4; ++corner) {
    list.pixel[corner] = sample.y(corner) * int32_t(shape.width) + sample.x(corner);
    list.weight[corner] = sample.inside ? sample.weight(corner) * region.factor : W(0);
  }
  return list;
}

// How many bins a warp takes at a time: if more than one, its lanes find all of their samples.
__device__ inline int bins_at_once(const Grid& grid) {
  const int count = grid.count();
  return count < 1 || count > kWarp ? 1 : min(kWarp / count, kMostBins);
}

// Calls `visit` in all lanes with each sample of the bins from `first_bin` on, bin by bin: the
// number of the bin, counted from the first, and the sample's corners.
template <typename W, typename F>
__device__ inline void for_samples(
    const RoiAlignShape& shape, const Region<W>& region, int first_bin, int bins,
    CornerList<W>* samples, const F& visit) {
  const int lane = threadIdx.x % kWarp, each = region.grid.count(), total = bins * each;
  int bin = 0, left = each;
  for (int first = 0; first < total; first += kWarp) {
    const int count = min(total - first, kWarp), own = first + lane;
    if (lane < count) samples[lane] = corners_of(shape, region, first_bin + own / each, own % each);
    __syncwarp();
    for (int i = 0; i < count; ++i) {
      visit(bin, samples[i]);
      if (--left == 0) ++bin, left = each;
    }
    __syncwarp();
  }
}

// Calls `visit` with the place in the output, and the channel and bin in shared memory, of what a
// thread copies of `count` bins.
template <typename W, typename F>
__device__ inline void for_copied(
    const RoiAlignShape& shape, const Region<W>& region, int64_t first_bin, int count,
    const F& visit) {
  for (int i = threadIdx.x; i < kWarp * count; i += blockDim.x) {
    const int channel = i / count, bin = i % count;
    if (region.first_channel + channel >= shape.channels) break;
    const int64_t plane = region.roi * shape.channels + region.first_channel + channel;
    visit(plane * shape.bins() + first_bin + bin, channel, bin);
  }
}

// maps: (B, H, W, C); output: (K, C, bins).
template <typename T, typename W, typename Kind>
__global__ void __launch_bounds__(kWarps* kWarp) forward_kernel(
    RoiAlignShape shape, const T* maps, const W* rois, Kind kind, W scale, T* output) {
  __shared__ Shared<W> shared;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int64_t item = blockIdx.x; item < shape.rois * slabs_of(shape); item += gridDim.x) {
    const Region<W> region = region_of(shape, rois, kind, scale, item);
    const int64_t channel = region.first_channel + lane;
    const int step = bins_at_once(region.grid);
    const T* image = maps + region.frame.image * shape.pixels() * shape.channels + channel;
    for (int64_t first = 0; first < shape.bins(); first += kBins) {
      const int64_t left = shape.bins() - first;
      const int count = left < kBins ? int(left) : kBins;
      for (int bin = warp * step; bin < count; bin += kWarps * step) {
        const int bins = min(step, count - bin);
        for (int i = 0; i < bins; ++i) shared.bins[bin + i][lane] = 0;
        const auto add = [&](int i, const CornerList<W>& sample) {
          W sum = 0;
          for (int corner = 0; corner < 4; ++corner) {
            // Corners without weight are skipped: zero times a pixel that is not finite is NaN.
            if (sample.weight[corner] == 0 || channel >= shape.channels) continue;
            sum += sample.weight[corner] * W(image[sample.pixel[corner] * shape.channels]);
          }
          shared.bins[bin + i][lane] += sum;
        };
        for_samples(shape, region, int(first) + bin, bins, shared.samples[warp], add);
      }
      __syncthreads();
      for_copied(shape, region, first, count, [&](int64_t at, int column, int bin) {
        output[at] = T(shared.bins[bin][column]);
      });
      __syncthreads();
    }
  }
}

// grad_output: (K, C, bins); grad_maps: (B, H, W, C), added to.
template <typename T, typename W, typename Kind>
__global__ void __launch_bounds__(kWarps* kWarp) backward_kernel(
    RoiAlignShape shape, const T* grad_output, const W* rois, Kind kind, W scale, W* grad_maps) {
  __shared__ Shared<W> shared;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int64_t item = blockIdx.x; item < shape.rois * slabs_of(shape); item += gridDim.x) {
    const Region<W> region = region_of(shape, rois, kind, scale, item);
    const int64_t channel = region.first_channel + lane;
    const int step = bins_at_once(region.grid);
    W* image = grad_maps + region.frame.image * shape.pixels() * shape.channels + channel;
    for (int64_t first = 0; first < shape.bins(); first += kBins) {
      const int64_t left = shape.bins() - first;
      const int count = left < kBins ? int(left) : kBins;
      for_copied(shape, region, first, count, [&](int64_t at, int column, int bin) {
        shared.bins[bin][column] = W(grad_output[at]);
      });
      __syncthreads();
      for (int bin = warp * step; bin < count; bin += kWarps * step) {
        const auto add = [&](int i, const CornerList<W>& sample) {
          if (channel >= shape.channels) return;
          const W grad = shared.bins[bin + i][lane];
          for (int corner = 0; corner < 4; ++corner) {
            if (sample.weight[corner] == 0) continue;
            const int64_t at = sample.pixel[corner] * shape.channels;
            atomicAdd(image + at, sample.weight[corner] * grad);
          }
        };
        const int bins = min(step, count - bin);
        for_samples(shape, region, int(first) + bin, bins, shared.samples[warp], add);
      }
      __syncthreads();
    }
  }
}

unsigned blocks_of(const RoiAlignShape& shape) {
  return blocks_for(shape.rois * ((shape.channels + kWarp - 1) / kWarp), 1);
}

template <typename W>
Tensor in_float(const Tensor& rois) {
  return torch::stable::contiguous(torch::stable::to(rois, kScalarType<W>));
}

template <typename T, typename Kind>
Tensor launch_forward(
    const RoiAlignShape& shape, const Tensor& input, const Tensor& rois, const Kind& kind,
    double scale) {
  using W = Wide<T>;
  const OnDevice device(input);
  const Tensor maps = channels_last(input), rows = in_float<W>(rois);
  Tensor output = torch::stable::new_empty(
      input, {shape.rois, shape.channels, shape.pooled_height, shape.pooled_width});
  forward_kernel<T, W, Kind><<<blocks_of(shape), kWarps * kWarp, 0, device.stream()>>>(
      shape, maps.const_data_ptr<T>(), rows.const_data_ptr<W>(), kind, W(scale),
      output.mutable_data_ptr<T>());
  check_launch();
  return output;
}

template <typename T, typename Kind>
Tensor launch_backward(
    const RoiAlignShape& shape, const Tensor& grad_output, const Tensor& rois, const Kind& kind,
    double scale) {
  using W = Wide<T>;
  const OnDevice device(grad_output);
  const Tensor grads = torch::stable::contiguous(grad_output), rows = in_float<W>(rois);
  Tensor grad_maps = torch::stable::new_zeros(
      grads, {shape.batch, shape.height, shape.width, shape.channels}, kScalarType<W>);
  backward_kernel<T, W, Kind><<<blocks_of(shape), kWarps * kWarp, 0, device.stream()>>>(
      shape, grads.const_data_ptr<T>(), rows.const_data_ptr<W>(), kind, W(scale),
      grad_maps.mutable_data_ptr<W>());
  check_launch();
  const Tensor narrow = torch::stable::to(grad_maps, kScalarType<T>);
  return torch::stable::contiguous(channels_first(narrow));
}

template <typename Kind>
Tensor forward(
    const Tensor& input, const Tensor& rois, const Kind& kind, double scale,
    int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio) {
  const RoiAlignShape shape = forward_shape(
      input, rois, Kind::kColumns, pooled_height, pooled_width, sampling_ratio);
  return with_floats(input.scalar_type(), [&](auto zero) {
    return launch_forward<decltype(zero)>(shape, input, rois, kind, scale);
  });
}

template <typename Kind>
Tensor backward(
    const Tensor& grad_output, const Tensor& rois, const Kind& kind, double scale,
    int64_t sampling_ratio, int64_t batch, int64_t height, int64_t width) {
  const RoiAlignShape shape =
      backward_shape(grad_output, rois, Kind::kColumns, sampling_ratio, batch, height, width);
  return with_floats(grad_output.scalar_type(), [&](auto zero) {
    return launch_backward<decltype(zero)>(shape, grad_output, rois, kind, scale);
  });
}

Tensor roi_align(
    const Tensor& input, const Tensor& rois, double scale, int64_t pooled_height,
    int64_t pooled_width, int64_t sampling_ratio, bool aligned) {
  const Upright kind{aligned};
  return forward(input, rois, kind, scale, pooled_height, pooled_width, sampling_ratio);
}

Tensor roi_align_backward(
    const Tensor& grad_output, const Tensor& rois, double scale, int64_t sampling_ratio,
    bool aligned, int64_t batch, int64_t height, int64_t width) {
  const Upright kind{aligned};
  return backward(grad_output, rois, kind, scale, sampling_ratio, batch, height, width);
}

Tensor roi_align_rotated(
    const Tensor& input, const Tensor& rois, double scale, int64_t pooled_height,
    int64_t pooled_width, int64_t sampling_ratio) {
  return forward(input, rois, Rotated(), scale, pooled_height, pooled_width, sampling_ratio);
}

Tensor roi_align_rotated_backward(
    const Tensor& grad_output, const Tensor& rois, double scale, int64_t sampling_ratio,
    int64_t batch, int64_t height, int64_t width) {
  return backward(grad_output, rois, Rotated(), scale, sampling_ratio, batch, height, width);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("roi_align", TORCH_BOX(&roi_align));
  library.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  library.impl("roi_align_rotated", TORCH_BOX(&roi_align_rotated));
  library.impl("roi_align_rotated_backward", TORCH_BOX(&roi_align_rotated_backward));
}

}  // namespace
}  // namespace d2ext
