// Non-maximum suppression of rotated boxes on the CPU. The next best boxes, up to kLeaders, are
// compared with each other; the kept ones are then compared in parallel with the boxes that they
// can reach in x. For that, boxes are sorted in memory by group and left end.

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "../box_iou_rotated/loops.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;

D2EXT_IOU_ROW(float)
D2EXT_IOU_ROW(double)

constexpr int64_t kLeaders = 256;  // best boxes per round; threads synchronise after each round
constexpr int64_t kPiece = 1024;  // boxes per row of IoUs; fewer are not worth a thread

// Left and right end of a box; an empty range, which reaches nothing, if they are NaN.
template <typename T>
std::pair<T, T> extent(const RotatedBox<T>& box) {
  const Direction<T> turn = direction_of(box.angle);
  const T reach =
      std::abs(box.half_width * turn.cos) + std::abs(box.half_height * turn.sin);
  const T left = box.x - reach, right = box.x + reach;
  const T nowhere = std::numeric_limits<T>::infinity();
  return left <= right ? std::make_pair(left, right) : std::make_pair(nowhere, -nowhere);
}

template <typename T>
class Suppression {
 public:
  // `groups` may be null: all boxes are in one.
  Suppression(
      const T* boxes, const int64_t* order, const int64_t* groups, int64_t count, T threshold)
      : count_(count), threshold_(threshold), order_(order), places_(count), keys_(count),
        right_(count), gone_(count), boxes_(count) {
    std::vector<std::pair<Key, int64_t>> sorted(count);
    for (int64_t i = 0; i < count; ++i) {
      const T left = extent(read_box<T>(boxes + 5 * i)).first;
      sorted[i] = {{groups ? groups[i] : 0, left}, i};
    }
    std::sort(sorted.begin(), sorted.end());
    for (int64_t place = 0; place < count; ++place) {
      const int64_t i = sorted[place].second;
      const RotatedBox<T> box = read_box<T>(boxes + 5 * i);
      places_[i] = place, keys_[place] = sorted[place].first, boxes_.set(place, box);
      right_[place] = extent(box).second;
      const T width = right_[place] - keys_[place].second;
      widest_ = width > widest_ ? width : widest_;
    }
  }

  // Returns the indices of the kept boxes, by decreasing score.
  std::vector<int64_t> run() {
    std::vector<int64_t> kept;
    for (int64_t rank = 0; rank < count_;) {
      const std::vector<int64_t> leaders = next_leaders(rank, kept);
      torch::stable::parallel_for(0, count_, kPiece, [&](int64_t begin, int64_t end) {
        for (const int64_t leader : leaders) suppress(leader, begin, end);
      });
    }
    return kept;
  }

 private:
  using Key = std::pair<int64_t, T>;  // group and left end

  // Returns the places of the next kept boxes from `rank` on, advances it and appends to `kept`.
  std::vector<int64_t> next_leaders(int64_t& rank, std::vector<int64_t>& kept) {
    std::vector<int64_t> places, indices, leaders;
    Columns<T> boxes(kLeaders);
    for (; rank < count_ && int64_t(places.size()) < kLeaders; ++rank) {
      const int64_t place = places_[order_[rank]];
      if (gone_[place]) continue;
      boxes.set(places.size(), boxes_[place]);
      places.push_back(place), indices.push_back(order_[rank]);
    }
    const int64_t count = places.size();
    T ious[kLeaders];
    for (int64_t i = 0; i < count; ++i) {
      if (gone_[places[i]]) continue;
      leaders.push_back(places[i]), kept.push_back(indices[i]);
      fill_iou_row(boxes[i], boxes, i + 1, count, ious);
      for (int64_t j = i + 1; j < count; ++j) {
        const bool same_group = keys_[places[i]].first == keys_[places[j]].first;
        if (same_group && ious[j - i - 1] > threshold_) gone_[places[j]] = true;
      }
    }
    return leaders;
  }

  // Marks the boxes that the leader overlaps among the places from begin to end. The search range
  // starts as far to the left as the widest box reaches, since boxes are sorted by left ends only.
  void suppress(int64_t leader, int64_t begin, int64_t end) {
    const auto& [group, left] = keys_[leader];
    const auto from = keys_.begin() + begin, to = keys_.begin() + end;
    begin = std::lower_bound(from, to, Key(group, left - widest_)) - keys_.begin();
    end = std::upper_bound(from, to, Key(group, right_[leader])) - keys_.begin();
    T ious[kPiece];
    for (; begin < end; begin += kPiece) {
      const int64_t stop = std::min(begin + kPiece, end);
      fill_iou_row(boxes_[leader], boxes_, begin, stop, ious);
      for (int64_t j = begin; j < stop; ++j) gone_[j] |= ious[j - begin] > threshold_;
    }
  }

  const int64_t count_;
  const T threshold_;
  const int64_t* order_;
  T widest_ = 0;
  // By place: the boxes sorted by group and left end.
  std::vector<int64_t> places_;  // by index
  std::vector<Key> keys_;
  std::vector<T> right_;
  std::vector<uint8_t> gone_;
  Columns<T> boxes_;
};

template <typename T>
Tensor kept_of(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double threshold) {
  const ScalarType type = torch::headeronly::CppTypeToScalarType<T>::value;
  const Tensor rows = torch::stable::contiguous(torch::stable::to(boxes, type));
  const Tensor order = ranked(scores);
  std::optional<Tensor> numbers;
  if (groups) numbers = torch::stable::contiguous(torch::stable::to(*groups, ScalarType::Long));
  Suppression<T> suppression(
      rows.template const_data_ptr<T>(), order.const_data_ptr<int64_t>(),
      numbers ? numbers->const_data_ptr<int64_t>() : nullptr, rows.size(0), T(threshold));
  const std::vector<int64_t> kept = suppression.run();
  const Tensor out = torch::stable::new_empty(boxes, {int64_t(kept.size())}, ScalarType::Long);
  std::copy(kept.begin(), kept.end(), out.mutable_data_ptr<int64_t>());
  return out;
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

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("nms_rotated", TORCH_BOX(&nms_rotated));
}

}  // namespace
}  // namespace d2ext
