import torch

from d2ext.modeling.dense_heads.dense_head import cell_centers, flatten_cells


def test_cells_are_flattened_by_row_column_and_anchor():
    level = torch.arange(2 * 3 * 2 * 2).view(1, 6, 2, 2)  # two anchors of three numbers each
    cells = flatten_cells(level, 3)
    assert cells.shape == (1, 8, 3)
    assert cells[0, 0].tolist() == [0, 4, 8]  # anchor 0 of the first cell
    assert cells[0, 1].tolist() == [12, 16, 20]  # anchor 1 of the first cell
    assert cells[0, 2].tolist() == [1, 5, 9]  # anchor 0 of the next cell in the row


def test_centres_of_cells_run_along_rows():
    centers = cell_centers(torch.zeros(1, 1, 2, 3), stride=8)
    assert centers.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
