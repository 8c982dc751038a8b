import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import augment
from lotto.streams import generator


def test_shift_by_hand():
    image = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    at = augment.Draws(torch.tensor([0]), torch.tensor([2]), torch.tensor([False]))
    # padded by 1; the window at row 0, column 2 sees the zero row above, and the right column then zeros
    assert augment.apply(image, at, 1).flatten().tolist() == [0, 0, 2, 0]


def test_flip_by_hand():
    image = torch.arange(4.0).view(1, 1, 2, 2)
    at = augment.Draws(torch.tensor([0]), torch.tensor([0]), torch.tensor([True]))
    assert augment.apply(image, at, 0).flatten().tolist() == [1, 0, 3, 2]


@given(st.integers(1, 5), st.integers(0, 3), st.booleans(), st.integers(0, 10**6))
def test_each_image_gets_its_own_and_pixels_only_move(n, shift, flip, seed):
    images = torch.rand(n, 2, 5, 5) + 1
    draws = augment.draw(n, shift, flip, generator(seed, "augment"))
    out = augment.apply(images, draws, shift)
    assert out.shape == images.shape
    for i in range(n):
        alone = augment.apply(images[i : i + 1], draws[i : i + 1], shift)
        assert torch.equal(alone[0], out[i])
        assert set(out[i].flatten().tolist()) - {0.0} <= set(images[i].flatten().tolist())
    centre = augment.Draws(torch.full((n,), shift), torch.full((n,), shift), torch.zeros(n, dtype=torch.bool))
    assert torch.equal(augment.apply(images, centre, shift), images)


def test_siamese_is_one_draw_for_all():
    draws = augment.same(augment.draw(1, 2, True, generator(0, "distill")), 7)
    assert len(set(zip(*(t.tolist() for t in tuple(draws)), strict=True))) == 1 and len(draws.rows) == 7


def test_gradients_reach_the_pixels():
    images = torch.rand(3, 1, 4, 4, requires_grad=True)
    augment.apply(images, augment.draw(3, 1, True, generator(0, "augment")), 1).sum().backward()
    assert (images.grad > 0).any(dim=(1, 2, 3)).all()


def test_shifts_cover_their_range():
    draws = augment.draw(2000, 1, True, generator(0, "augment"))
    assert set(draws.rows.tolist()) == {0, 1, 2} and abs(float(draws.flips.float().mean()) - 0.5) < 0.05
