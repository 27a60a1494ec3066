// Non-maximum suppression of rotated boxes on CUDA without a round trip to the host. Boxes are
// taken by rank: a chunk of them is compared with all that follow, one bit per pair, then one block
// decides box by box. Boxes that earlier chunks dropped are not compared again. The host
// synchronises once, to learn the final size.

#include <algorithm>
#include <optional>

#include "../box_iou_rotated/geometry.h"
#include "../cuda.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;
using Word = unsigned long long;  // a bit for each of 64 ranks

constexpr int kBits = 64;
constexpr int kDeciders = 1024;  // threads of the block that decides
constexpr int64_t kTableBytes = 64 << 20;  // bits of a chunk

template <typename T>
struct Ranked {
  int64_t count, words;  // boxes, and words for a bit each
  const T* boxes;
  const int64_t* order;  // index by rank
  const int64_t* groups;  // by index, or null: all boxes are in one
  T threshold;

  __device__ RotatedBox<T> box(int64_t rank) const { return read_box<T>(boxes + 5 * order[rank]); }
  __device__ int64_t group(int64_t rank) const { return groups ? groups[order[rank]] : 0; }
};

// table[row][word]: which later boxes of that word the row's box drops, should it stay. A block is
// 64 rows by one word. Rows that are dropped already are left out, and never read.
template <typename T>
__global__ void compare_kernel(
    Ranked<T> ranked, int64_t first_row, const Word* dropped, Word* table) {
  __shared__ RotatedBox<T> boxes[kBits];
  __shared__ int64_t groups[kBits];
  const int64_t first_word = first_row / kBits;
  const int64_t row_word = first_word + blockIdx.y, word = first_word + blockIdx.x;
  if (word < row_word) return;
  const int64_t start = word * kBits;
  const int width = int(min(int64_t(kBits), ranked.count - start));
  if (threadIdx.x < width) {
    boxes[threadIdx.x] = ranked.box(start + threadIdx.x);
    groups[threadIdx.x] = ranked.group(start + threadIdx.x);
  }
  __syncthreads();
  const int64_t row = row_word * kBits + threadIdx.x;
  if (row >= ranked.count || dropped[row_word] >> threadIdx.x & 1) return;
  const RotatedBox<T> box = ranked.box(row);
  const Direction<T> axes = direction_of(box.angle);
  const int64_t group = ranked.group(row);
  Word bits = 0;
  for (int i = 0; i < width; ++i) {
    if (start + i <= row || groups[i] != group) continue;
    if (iou_of(box, axes, boxes[i]) > ranked.threshold) bits |= Word(1) << i;
  }
  table[(row - first_row) * ranked.words + word] = bits;
}

// One block goes through the chunk's words: a thread decides on 64 boxes, all drop what follows.
__global__ void decide_kernel(
    int64_t count, int64_t words, int64_t first_row, int64_t last_row, const Word* table,
    Word* dropped, bool* stays) {
  __shared__ Word drops[kBits];  // within the word
  __shared__ Word kept;
  for (int64_t start = first_row; start < last_row; start += kBits) {
    const int64_t word = start / kBits;
    const Word* rows = table + (start - first_row) * words;
    const int width = int(min(int64_t(kBits), count - start));
    if (threadIdx.x < width) {
      // The rows of boxes that earlier chunks dropped were not written.
      const bool is_dropped = dropped[word] >> threadIdx.x & 1;
      drops[threadIdx.x] = is_dropped ? 0 : rows[threadIdx.x * words + word];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      Word gone = dropped[word], stay = 0;
      for (int i = 0; i < width; ++i) {
        if (gone >> i & 1) continue;
        stay |= Word(1) << i;
        gone |= drops[i];
      }
      kept = stay;
    }
    __syncthreads();
    if (threadIdx.x < width) stays[start + threadIdx.x] = kept >> threadIdx.x & 1;
    for (int64_t other = word + 1 + threadIdx.x; other < words; other += blockDim.x) {
      Word gone = dropped[other];
      for (Word rest = kept; rest != 0; rest &= rest - 1) {
        gone |= rows[(__ffsll(rest) - 1) * words + other];
      }
      dropped[other] = gone;
    }
    __syncthreads();
  }
}

// ranks -> whether the box stays
template <typename T>
void launch(const Ranked<T>& ranked, const Tensor& boxes, const Tensor& stays) {
  const OnDevice device(boxes);
  const int64_t words = ranked.words;
  const int64_t fitting = kTableBytes / int64_t(sizeof(Word)) / words / kBits * kBits;
  const int64_t rows = std::clamp<int64_t>(fitting, kBits, words * kBits);
  const Tensor dropped = torch::stable::new_zeros(boxes, {words}, ScalarType::Long);
  const Tensor table = torch::stable::new_empty(boxes, {rows * words}, ScalarType::Long);
  Word* dropped_bits = reinterpret_cast<Word*>(dropped.mutable_data_ptr<int64_t>());
  Word* table_bits = reinterpret_cast<Word*>(table.mutable_data_ptr<int64_t>());
  for (int64_t first = 0; first < ranked.count; first += rows) {
    const int64_t last = std::min(first + rows, ranked.count);
    const dim3 grid(unsigned(words - first / kBits), blocks_for(last - first, kBits));
    compare_kernel<T><<<grid, kBits, 0, device.stream()>>>(ranked, first, dropped_bits, table_bits);
    check_launch();
    decide_kernel<<<1, kDeciders, 0, device.stream()>>>(
        ranked.count, words, first, last, table_bits, dropped_bits,
        stays.mutable_data_ptr<bool>());
    check_launch();
  }
}

template <typename T>
Tensor kept_of(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double threshold) {
  const Tensor order = ranked(scores);
  const int64_t count = boxes.size(0);
  if (count == 0) return order;
  const Tensor rows = torch::stable::contiguous(torch::stable::to(boxes, kScalarType<T>));
  const Tensor stays = torch::stable::new_empty(order, {count}, ScalarType::Bool);
  std::optional<Tensor> numbers;
  if (groups) numbers = torch::stable::contiguous(torch::stable::to(*groups, ScalarType::Long));
  const Ranked<T> problem{
      count,
      (count + kBits - 1) / kBits,
      rows.template const_data_ptr<T>(),
      order.const_data_ptr<int64_t>(),
      numbers ? numbers->const_data_ptr<int64_t>() : nullptr,
      T(threshold)};
  launch(problem, rows, stays);
  return masked_select(order, stays);
}

Tensor nms_rotated(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double iou_threshold) {
  check_candidates(boxes, scores, groups, iou_threshold);
  if (boxes.scalar_type() == ScalarType::Double) {
    return kept_of<double>(boxes, scores, groups, iou_threshold);
  }
  return kept_of<float>(boxes, scores, groups, iou_threshold);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("nms_rotated", TORCH_BOX(&nms_rotated));
}

}  // namespace
}  // namespace d2ext
