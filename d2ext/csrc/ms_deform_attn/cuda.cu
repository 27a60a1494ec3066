// Multi-scale deformable attention on CUDA. A team of four or eight threads shares a query and head:
// each finds the four pixels of every fourth or eighth sample; then, sample by sample, all read a few
// channels of each pixel. The queries of a block are neighbours that attend with the same head, so
// that pixels are read from the first-level cache.

#include <cstring>
#include <initializer_list>
#include <optional>
#include <torch/csrc/stable/ops.h>
#include <tuple>

#include "../cuda.h"
#include "geometry.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int kThreads = 128;
constexpr int kPackBytes = 16;  // read at once: the widest load of a thread
constexpr int kArgumentLevels = 64;  // that fit into the arguments of a kernel
constexpr unsigned kWholeWarp = 0xFFFFFFFF;

// The threads that share a query and head, each with N channels at a time: together the usual 32 of
// a head, or fewer.
template <int N>
struct Team {
  static constexpr int kSize = N == 8 ? 4 : 8;
  static constexpr int kQueries = kThreads / kSize;  // of a block
};

struct Problem {
  int64_t batch, pixels, heads, channels, queries;
  int points, samples;  // of a level, and of all
  Level levels[kArgumentLevels];
  const Level* more_levels;  // all of them, where the arguments have too few; or null

  __device__ Level level(int number) const {
    return more_levels ? more_levels[number] : levels[number];
  }
};

// The levels in the memory of `like`'s device, or nothing where they fit into the arguments.
std::optional<Tensor> levels_in_memory(const std::vector<Level>& levels, const Tensor& like) {
  static_assert(sizeof(Level) == 3 * sizeof(int64_t));
  if (levels.size() <= kArgumentLevels) return std::nullopt;
  const Tensor table = torch::stable::empty(
      {3 * int64_t(levels.size())}, torch::headeronly::ScalarType::Long, std::nullopt,
      torch::stable::Device(torch::headeronly::DeviceType::CPU));
  std::memcpy(table.mutable_data_ptr<int64_t>(), levels.data(), levels.size() * sizeof(Level));
  return torch::stable::to(table, like.device());
}

Problem problem_of(
    const Tensor& value, const std::vector<Level>& levels,
    const std::optional<Tensor>& levels_table, const Tensor& locations) {
  Problem problem{};
  problem.batch = value.size(0), problem.pixels = value.size(1);
  problem.heads = value.size(2), problem.channels = value.size(3);
  problem.queries = locations.size(1), problem.points = int(locations.size(4));
  problem.samples = int(levels.size()) * problem.points;
  if (levels_table) {
    problem.more_levels =
        reinterpret_cast<const Level*>(levels_table->const_data_ptr<int64_t>());
  } else {
    std::copy(levels.begin(), levels.end(), problem.levels);
  }
  return problem;
}

// ---- the part of one thread

// Where the threads of a team are: all of one head, each with a query.
struct Place {
  bool active;  // the last teams of a head may have no query
  int64_t row;  // in (N, Q, M)
  int64_t pixel;  // first number of the head's first pixel, in (N, S, M, D)
};

template <int N>
__device__ inline Place place_of(const Problem& problem, int64_t tiles_of_head, int64_t tile) {
  const int64_t head_of_batch = tile / tiles_of_head;
  const int64_t image = head_of_batch / problem.heads, head = head_of_batch % problem.heads;
  const int64_t query =
      (tile % tiles_of_head) * Team<N>::kQueries + threadIdx.x / Team<N>::kSize;
  return {
      query < problem.queries, (image * problem.queries + query) * problem.heads + head,
      (image * problem.pixels * problem.heads + head) * problem.channels};
}

// A sample as its finder sees it.
template <typename W>
struct Found {
  Level level;
  LevelSample<W> sample;
  W weight;
};

template <typename W>
__device__ inline Found<W> find(
    const Problem& problem, const Place& place, int number, const W* locations,
    const W* weights) {
  Found<W> found{};
  if (!place.active || number >= problem.samples) return found;
  const int64_t at = place.row * problem.samples + number;
  found.level = problem.level(number / problem.points);
  found.sample = level_sample(found.level, locations[2 * at], locations[2 * at + 1]);
  found.weight = weights[at];
  return found;
}

// A sample as the whole team sees it: its upper left pixel, which of the four are inside, a bit
// each, and their weights.
template <typename W>
struct Corners {
  int64_t pixel;
  int width, inside;
  W weight[4];

  __device__ bool has(int corner) const { return inside >> corner & 1; }
  __device__ int64_t pixel_of(int corner) const {
    return pixel + (corner / 2) * int64_t(width) + corner % 2;
  }
};

template <typename W>
__device__ inline Corners<W> corners_of(const Found<W>& found) {
  Corners<W> corners{};
  if (!found.sample.reads) return corners;
  const int64_t top = found.sample.top, left = found.sample.left;
  corners.pixel = found.level.first + top * found.level.width + left;
  corners.width = int(found.level.width);
  const int rows = int(top >= 0) * 3 | int(top + 1 < found.level.height) * 12;
  const int columns = int(left >= 0) * 5 | int(left + 1 < found.level.width) * 10;
  corners.inside = rows & columns;
  for (int c = 0; c < 4; ++c) corners.weight[c] = found.weight * found.sample.share(c);
  return corners;
}

// Reads a value that another thread of the team holds.
template <int Size, typename W>
__device__ inline Corners<W> from_member(const Corners<W>& own, int member) {
  Corners<W> corners;
  corners.pixel = __shfl_sync(kWholeWarp, own.pixel, member, Size);
  corners.width = __shfl_sync(kWholeWarp, own.width, member, Size);
  corners.inside = __shfl_sync(kWholeWarp, own.inside, member, Size);
  for (int c = 0; c < 4; ++c) {
    corners.weight[c] = __shfl_sync(kWholeWarp, own.weight[c], member, Size);
  }
  return corners;
}

// Sums over a team of each of its size of values; thread i gets the i-th.
template <int Size, typename W>
__device__ inline W team_sum(W (&values)[Size], int member) {
#pragma unroll
  for (int half = Size / 2; half > 0; half /= 2) {
    const bool upper = member & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const W kept = upper ? values[i + half] : values[i];
      const W given = upper ? values[i] : values[i + half];
      values[i] = kept + __shfl_xor_sync(kWholeWarp, given, half);
    }
  }
  return values[0];
}

template <typename T, int N>
__device__ inline Pack<T, N> read(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

// ---- forward

// Each thread sums N channels at a time. No thread leaves a loop early: shuffles need all of a
// warp.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) attend(
    const __grid_constant__ Problem problem, int64_t tiles_of_head, int64_t tiles,
    const T* __restrict__ value, const Wide<T>* __restrict__ locations,
    const Wide<T>* __restrict__ weights, T* __restrict__ output) {
  using W = Wide<T>;
  constexpr int kTeam = Team<N>::kSize;
  const int member = threadIdx.x % kTeam;
  const int64_t stride = problem.heads * problem.channels;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Place place = place_of<N>(problem, tiles_of_head, tile);
    for (int64_t first = 0; first < problem.channels; first += kTeam * N) {
      const int64_t channel = first + member * N;
      const bool has_channel = channel < problem.channels;
      const T* pixels = value + place.pixel + channel;
      W sums[N] = {};
      for (int turn = 0; turn < problem.samples; turn += kTeam) {
        const Corners<W> own =
            corners_of(find(problem, place, turn + member, locations, weights));
#pragma unroll 2
        for (int i = 0; i < kTeam; ++i) {
          const Corners<W> corners = from_member<kTeam>(own, i);
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (!corners.has(c) || !has_channel) continue;
            const Pack<T, N> pixel = read<T, N>(pixels + corners.pixel_of(c) * stride);
#pragma unroll
            for (int n = 0; n < N; ++n) sums[n] += corners.weight[c] * W(pixel.at[n]);
          }
        }
      }
      if (!place.active || !has_channel) continue;
      Pack<T, N> sum;
#pragma unroll
      for (int n = 0; n < N; ++n) sum.at[n] = T(sums[n]);
      *reinterpret_cast<Pack<T, N>*>(output + place.row * problem.channels + channel) = sum;
    }
  }
}

// ---- backward

// The gradients of those of a team's channels that a thread adds to; `count` channels are left.
template <typename T, int N>
__device__ inline void read_terms(const T* grads, int member, int count, Wide<T> (&terms)[N]) {
  constexpr int kAtOnce = kAdds<Wide<T>, N>;
#pragma unroll
  for (int i = 0; i < N; i += kAtOnce) {
    const int place = place_of_term<Wide<T>, N>(i, member, Team<N>::kSize);
    Pack<T, kAtOnce> some{};
    if (place < count) some = read<T, kAtOnce>(grads + place);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) terms[i + k] = Wide<T>(some.at[k]);
  }
}

// Adds weight * gradient to the gradients of a sample's four pixels, and to the scalar products of
// the gradient with the pixels the terms of a thread's channels. These are not the channels that it
// adds to: it reads as much as it can at once.
template <typename T, int N>
__device__ inline void add_back(
    const Problem& problem, const Corners<Wide<T>>& corners, int member, const T* grads,
    const T* pixels, Wide<T>* grad_pixels, Wide<T> (&products)[4]) {
  using W = Wide<T>;
  constexpr int kTeam = Team<N>::kSize;
  if (!corners.inside) return;  // a team without a query has no gradient to read either
  const int64_t stride = problem.heads * problem.channels;
  for (int64_t first = 0; first < problem.channels; first += kTeam * N) {
    const int own = member * N, count = int(min(problem.channels - first, int64_t(kTeam * N)));
    W added[N];
    read_terms<T, N>(grads + first, member, count, added);
    Pack<T, N> grad{};
    if (own < count) grad = read<T, N>(grads + first + own);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (!corners.has(c)) continue;
      const int64_t at = corners.pixel_of(c) * stride + first;
      Pack<T, N> pixel{};
      if (own < count) pixel = read<T, N>(pixels + at + own);
      W terms[N];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        products[c] += W(grad.at[n]) * W(pixel.at[n]);
        terms[n] = corners.weight[c] * added[n];
      }
      add_terms<W, N>(grad_pixels + at, terms, member, kTeam, count);
    }
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) attend_back(
    const __grid_constant__ Problem problem, int64_t tiles_of_head, int64_t tiles,
    const T* __restrict__ grad_output, const T* __restrict__ value,
    const Wide<T>* __restrict__ locations, const Wide<T>* __restrict__ weights,
    Wide<T>* __restrict__ grad_value, Wide<T>* __restrict__ grad_locations,
    Wide<T>* __restrict__ grad_weights) {
  using W = Wide<T>;
  constexpr int kTeam = Team<N>::kSize;
  const int member = threadIdx.x % kTeam;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Place place = place_of<N>(problem, tiles_of_head, tile);
    const T* grads = grad_output + place.row * problem.channels;
    for (int turn = 0; turn < problem.samples; turn += kTeam) {
      const Found<W> found = find(problem, place, turn + member, locations, weights);
      const Corners<W> own = corners_of(found);
      W terms[4][kTeam];
#pragma unroll
      for (int i = 0; i < kTeam; ++i) {
        W products[4] = {};
        add_back<T, N>(
            problem, from_member<kTeam>(own, i), member, grads, value + place.pixel,
            grad_value + place.pixel, products);
#pragma unroll
        for (int c = 0; c < 4; ++c) terms[c][i] = products[c];
      }
      W products[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) products[c] = team_sum<kTeam>(terms[c], member);
      const int number = turn + member;
      if (!place.active || number >= problem.samples) continue;
      const LevelSampleGradient<W> gradient =
          level_sample_gradient(found.level, found.sample, found.weight, products);
      const int64_t at = place.row * problem.samples + number;
      grad_locations[2 * at] = gradient.x;
      grad_locations[2 * at + 1] = gradient.y;
      grad_weights[at] = gradient.weight;
    }
  }
}

// ---- launches

template <typename T>
Tensor as_contiguous(const Tensor& tensor) {
  return torch::stable::contiguous(torch::stable::to(tensor, kScalarType<T>));
}

// Whether N channels can be read at once.
template <typename T, int N>
bool is_packed(const Problem& problem, std::initializer_list<const Tensor*> tensors) {
  bool packed = problem.channels % N == 0;
  for (const Tensor* tensor : tensors) {
    packed &= reinterpret_cast<uintptr_t>(tensor->data_ptr()) % sizeof(Pack<T, N>) == 0;
  }
  return packed;
}

template <int N>
int64_t tiles_of_head(const Problem& problem) {
  return (problem.queries + Team<N>::kQueries - 1) / Team<N>::kQueries;
}

template <typename T, int N>
void launch_forward(
    const Problem& problem, const Tensor& value, const Tensor& locations, const Tensor& weights,
    const Tensor& output, cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t of_head = tiles_of_head<N>(problem), tiles = problem.batch * problem.heads * of_head;
  attend<T, N><<<blocks_for(tiles, 1), kThreads, 0, stream>>>(
      problem, of_head, tiles, value.const_data_ptr<T>(), locations.const_data_ptr<W>(),
      weights.const_data_ptr<W>(), output.mutable_data_ptr<T>());
  check_launch();
}

template <typename T>
Tensor forward(
    const Problem& problem, const Tensor& value_in, const Tensor& locations_in,
    const Tensor& weights_in, cudaStream_t stream) {
  using W = Wide<T>;
  const Tensor value = as_contiguous<T>(value_in);
  const Tensor locations = as_contiguous<W>(locations_in);
  const Tensor weights = as_contiguous<W>(weights_in);
  const Tensor output = torch::stable::new_empty(
      value, {problem.batch, problem.queries, problem.heads * problem.channels});
  constexpr int kPack = kPackBytes / sizeof(T);
  const bool packed = is_packed<T, kPack>(problem, {&value, &output});
  const auto launch = packed ? launch_forward<T, kPack> : launch_forward<T, 1>;
  launch(problem, value, locations, weights, output, stream);
  return output;
}

struct Gradients {
  Tensor value, locations, weights;
};

template <typename T, int N>
void launch_backward(
    const Problem& problem, const Tensor& grad_output, const Tensor& value,
    const Tensor& locations, const Tensor& weights, const Gradients& grads,
    cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t of_head = tiles_of_head<N>(problem), tiles = problem.batch * problem.heads * of_head;
  attend_back<T, N><<<blocks_for(tiles, 1), kThreads, 0, stream>>>(
      problem, of_head, tiles, grad_output.const_data_ptr<T>(), value.const_data_ptr<T>(),
      locations.const_data_ptr<W>(), weights.const_data_ptr<W>(),
      grads.value.mutable_data_ptr<W>(), grads.locations.mutable_data_ptr<W>(),
      grads.weights.mutable_data_ptr<W>());
  check_launch();
}

template <typename T>
Gradients backward(
    const Problem& problem, const Tensor& grad_output_in, const Tensor& value_in,
    const Tensor& locations_in, const Tensor& weights_in, cudaStream_t stream) {
  using W = Wide<T>;
  const Tensor grad_output = as_contiguous<T>(grad_output_in);
  const Tensor value = as_contiguous<T>(value_in);
  const Tensor locations = as_contiguous<W>(locations_in);
  const Tensor weights = as_contiguous<W>(weights_in);
  const Gradients grads{
      torch::stable::new_zeros(value, value.sizes(), kScalarType<W>),
      torch::stable::empty_like(locations), torch::stable::empty_like(weights)};
  // Four channels, of half types, too: sums in float are most of the traffic, and teams of eight add
  // to whole sectors of memory.
  const bool packed = is_packed<T, 4>(problem, {&grad_output, &value});
  const auto launch = packed ? launch_backward<T, 4> : launch_backward<T, 1>;
  launch(problem, grad_output, value, locations, weights, grads, stream);
  return grads;
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  const OnDevice device(value);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const std::optional<Tensor> table = levels_in_memory(levels, value);
  const Problem problem = problem_of(value, levels, table, locations);
  return with_floats(value.scalar_type(), [&](auto zero) {
    return forward<decltype(zero)>(problem, value, locations, weights, device.stream());
  });
}

// Gradients of value, locations and weights.
std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes,
    const Tensor& locations, const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  check_grad_output(grad_output, value, locations);
  const OnDevice device(value);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const std::optional<Tensor> table = levels_in_memory(levels, value);
  const Problem problem = problem_of(value, levels, table, locations);
  const Gradients grads = with_floats(value.scalar_type(), [&](auto zero) {
    return backward<decltype(zero)>(
        problem, grad_output, value, locations, weights, device.stream());
  });
  return std::make_tuple(
      torch::stable::to(grads.value, value.scalar_type()),
      torch::stable::to(grads.locations, locations.scalar_type()),
      torch::stable::to(grads.weights, weights.scalar_type()));
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
}

}  // namespace
}  // namespace d2ext
