import torch

from d2ext.modeling.init import prior_bias


def test_the_prior_bias_gives_the_probability():
    torch.testing.assert_close(torch.tensor(prior_bias(0.01)).sigmoid(), torch.tensor(0.01))
