// RoI align on the CPU. The pixels and weights of each bin are found once for all channels. Then
// each thread takes some channels of an image: the pixels that are read become rows of channels,
// which fit a cache and are summed as vectors. The backward pass goes the other way: no other
// thread adds to those rows, so that every run gives the same bits.

#include <memory>

#include "../types.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

D2EXT_ROI_ALIGN_LOOPS(float)
D2EXT_ROI_ALIGN_LOOPS(double)
D2EXT_ROI_ALIGN_READING(float, float)
D2EXT_ROI_ALIGN_READING(float, BFloat16)
D2EXT_ROI_ALIGN_READING(float, Half)
D2EXT_ROI_ALIGN_READING(double, double)

constexpr int64_t kMostTaps = 4 << 20;  // kept at a time: many regions with many samples take turns

template <typename T>
std::vector<Frame<T>> checked(std::vector<Frame<T>> frames, int64_t batch) {
  for (const Frame<T>& frame : frames) {
    STD_TORCH_CHECK(
        frame.image >= 0 && frame.image < batch, "a region is in image ", frame.image, " of ",
        batch);
  }
  return frames;
}

template <typename T, typename Kind>
std::vector<Frame<T>> frames_of(const Tensor& rois, const Kind& kind, double scale) {
  const Tensor rows = torch::stable::contiguous(torch::stable::to(rois, kTypeOf<T>));
  const T* row = rows.template const_data_ptr<T>();
  std::vector<Frame<T>> frames;
  for (int64_t i = 0; i < rois.size(0); ++i, row += Kind::kColumns) {
    frames.push_back(kind.frame_of(row, T(scale)));
  }
  return frames;
}

template <typename T>
class RoiAlign {
 public:
  RoiAlign(const RoiAlignShape& shape, std::vector<Frame<T>> frames)
      : shape_(shape), frames_(checked(std::move(frames), shape.batch)) {}

  // (B, C, H, W) maps in S -> (K, C, pooled height, pooled width).
  template <typename S>
  Tensor forward(const Tensor& input) const {
    const Tensor maps = flat(input);
    const Tensor output = torch::stable::new_empty(maps, output_size());
    S* out = output.template mutable_data_ptr<S>();
    for_groups([&](const Group& group) {
      for_slabs(group, [&](int64_t image, int64_t channel, T* rows, T* bins) {
        const Slab<const S> slab = slab_of(maps.template const_data_ptr<S>(), maps, image, channel);
        for (const int64_t block : group.blocks[image]) {
          read_rows(slab, block, std::min(block + kBlock, shape_.pixels()), rows);
        }
        for (const RoiTaps<T>& roi : group.rois) {
          if (roi.image != image) continue;
          gather_bins(roi, rows, bins);
          write_bins(bins, slab.lanes, out + (roi.roi * shape_.channels + channel) * shape_.bins());
        }
      });
    });
    return output;
  }

  // Gradients of the maps, in T.
  template <typename S>
  Tensor backward(const Tensor& grad_output) const {
    const Tensor grads = torch::stable::contiguous(grad_output);
    const S* grad = grads.template const_data_ptr<S>();
    const Tensor output = torch::stable::new_zeros(
        grads, {shape_.batch, shape_.channels, shape_.height, shape_.width}, kTypeOf<T>);
    for_groups([&](const Group& group) {
      for_slabs(group, [&](int64_t image, int64_t channel, T* rows, T* bins) {
        const Slab<T> slab = slab_of(output.template mutable_data_ptr<T>(), output, image, channel);
        for (const int64_t block : group.blocks[image]) {
          std::fill_n(rows + block * kLanes<T>, kBlock * kLanes<T>, T(0));
        }
        for (const RoiTaps<T>& roi : group.rois) {
          if (roi.image != image) continue;
          const S* from = grad + (roi.roi * shape_.channels + channel) * shape_.bins();
          read_rows(Slab<const S>{from, slab.lanes, shape_.bins(), 1}, 0, shape_.bins(), bins);
          scatter_bins(roi, bins, rows);
        }
        for (const int64_t block : group.blocks[image]) {
          add_rows(rows, block, std::min(block + kBlock, shape_.pixels()), slab);
        }
      });
    });
    return output;
  }

 private:
  // Regions that are computed together, and of each image the blocks of pixels that they need.
  struct Group {
    std::vector<RoiTaps<T>> rois;
    std::vector<std::vector<int64_t>> blocks;
  };

  template <typename F>
  void for_groups(const F& run) const {
    for (size_t first = 0, last = 0; first < frames_.size(); first = last) {
      int64_t taps = 0;
      do {
        taps += 4 * shape_.bins() * grid_of(frames_[last++], shape_).count();
      } while (last < frames_.size() && taps < kMostTaps);
      run(group_of(int64_t(first), int64_t(last)));
    }
  }

  Group group_of(int64_t first, int64_t last) const {
    Group group{std::vector<RoiTaps<T>>(last - first), {}};
    torch::stable::parallel_for(first, last, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        group.rois[i - first] = taps_of(frames_[i], shape_, i);
      }
    });
    const int64_t blocks = (shape_.pixels() + kBlock - 1) / kBlock;
    std::vector<std::vector<bool>> needed(shape_.batch, std::vector<bool>(blocks));
    for (const RoiTaps<T>& roi : group.rois) {
      for (const Tap<T>& tap : roi.taps) needed[roi.image][tap.pixel / kBlock] = true;
    }
    for (const std::vector<bool>& of_image : needed) {
      group.blocks.emplace_back();
      for (int64_t block = 0; block < blocks; ++block) {
        if (of_image[block]) group.blocks.back().push_back(block * kBlock);
      }
    }
    return group;
  }

  // Calls `run` with an image, its first channel, and space for rows of pixels and of bins.
  template <typename F>
  void for_slabs(const Group& group, const F& run) const {
    const int64_t slabs = (shape_.channels + kLanes<T> - 1) / kLanes<T>;
    const int64_t rows = shape_.pixels() + kBlock;
    torch::stable::parallel_for(0, shape_.batch * slabs, 1, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<T[]> pixels(new T[rows * kLanes<T>]);
      const std::unique_ptr<T[]> bins(new T[shape_.bins() * kLanes<T>]);
      for (int64_t i = begin; i < end; ++i) {
        run(i / slabs, i % slabs * kLanes<T>, pixels.get(), bins.get());
      }
    });
  }

  template <typename S>
  Slab<S> slab_of(S* maps, const Tensor& tensor, int64_t image, int64_t channel) const {
    S* begin = maps + image * tensor.stride(0) + channel * tensor.stride(1);
    const int64_t lanes = std::min(kLanes<T>, shape_.channels - channel);
    return {begin, lanes, tensor.stride(1), tensor.stride(3)};
  }

  template <typename S>
  void write_bins(const T* bins, int64_t lanes, S* out) const {
    for (int64_t c = 0; c < lanes; ++c) {
      for (int64_t i = 0; i < shape_.bins(); ++i) {
        store(out + c * shape_.bins() + i, S(bins[i * kLanes<T> + c]));
      }
    }
  }

  // Channels first or last, or a copy of another order: a pixel's place is that in its image.
  Tensor flat(const Tensor& input) const {
    const bool is_flat = input.stride(2) == shape_.width * input.stride(3);
    return is_flat ? input : torch::stable::contiguous(input);
  }

  std::vector<int64_t> output_size() const {
    return {shape_.rois, shape_.channels, shape_.pooled_height, shape_.pooled_width};
  }

  const RoiAlignShape shape_;
  const std::vector<Frame<T>> frames_;
};

template <typename Kind>
Tensor forward(
    const Tensor& input, const Tensor& rois, const Kind& kind, double scale,
    int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio) {
  const RoiAlignShape shape = forward_shape(
      input, rois, Kind::kColumns, pooled_height, pooled_width, sampling_ratio);
  return with_types(input.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    const RoiAlign<T> problem(shape, frames_of<T>(rois, kind, scale));
    return problem.template forward<decltype(s)>(input);
  });
}

template <typename Kind>
Tensor backward(
    const Tensor& grad_output, const Tensor& rois, const Kind& kind, double scale,
    int64_t sampling_ratio, int64_t batch, int64_t height, int64_t width) {
  const RoiAlignShape shape =
      backward_shape(grad_output, rois, Kind::kColumns, sampling_ratio, batch, height, width);
  return with_types(grad_output.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    const RoiAlign<T> problem(shape, frames_of<T>(rois, kind, scale));
    const Tensor grad_input = problem.template backward<decltype(s)>(grad_output);
    return torch::stable::to(grad_input, grad_output.scalar_type());
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

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("roi_align", TORCH_BOX(&roi_align));
  library.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  library.impl("roi_align_rotated", TORCH_BOX(&roi_align_rotated));
  library.impl("roi_align_rotated_backward", TORCH_BOX(&roi_align_rotated_backward));
}

}  // namespace
}  // namespace d2ext
