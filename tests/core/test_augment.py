import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import augment
from lotto.streams import generator

NONE = torch.zeros(1, 0)
OPS = ("color", "scale", "rotate", "cutout")


def test_shift_by_hand():
    image = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    at = augment.Draws(torch.tensor([0]), torch.tensor([2]), torch.tensor([[False]]), NONE)
    # padded by 1; the window at row 0, column 2 sees the zero row above, and the right column then zeros
    assert augment.apply(image, at, 1).flatten().tolist() == [0, 0, 2, 0]


def test_flip_by_hand():
    image = torch.arange(4.0).view(1, 1, 2, 2)
    at = augment.Draws(torch.tensor([0]), torch.tensor([0]), torch.tensor([[True]]), NONE)
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
    centre = augment.Draws(
        torch.full((n,), shift), torch.full((n,), shift), torch.zeros(n, 1, dtype=torch.bool), torch.zeros(n, 0)
    )
    assert torch.equal(augment.apply(images, centre, shift), images)


def test_siamese_is_one_draw_for_all():
    draws = augment.same(augment.draw(1, 2, True, generator(0, "distill")), 7)
    assert len({str(x) for x in zip(*(t.tolist() for t in tuple(draws)), strict=True)}) == 1
    assert len(draws.rows) == 7


def test_gradients_reach_the_pixels():
    images = torch.rand(3, 1, 4, 4, requires_grad=True)
    augment.apply(images, augment.draw(3, 1, True, generator(0, "augment")), 1).sum().backward()
    assert (images.grad > 0).any(dim=(1, 2, 3)).all()


def test_shifts_cover_their_range():
    draws = augment.draw(2000, 1, True, generator(0, "augment"))
    assert set(draws.rows.tolist()) == {0, 1, 2}
    assert abs(float(draws.flips.float().mean()) - 0.5) < 0.05


def numbers(**given):
    """The eight numbers of one image: those that change nothing, but for the given."""
    names = ("brightness", "saturation", "contrast", "x", "y", "angle", "row", "column")
    still = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
    plain = dict(brightness=0.5, saturation=0.5, contrast=0.5, x=still, y=still, angle=0.5, row=0.0, column=0.0)
    return augment.Draws(
        *(torch.zeros(1, dtype=torch.int64) for _ in range(2)),
        torch.zeros(1, 1, dtype=torch.bool),
        torch.tensor([[{**plain, **given}[n] for n in names]]),
    )


def test_further_operations_by_hand():
    image = torch.arange(32.0).view(1, 2, 4, 4)
    for op in ("color", "scale", "rotate"):
        assert torch.allclose(augment.apply(image, numbers(), 0, (op,)), image, atol=1e-4)
    assert torch.allclose(augment.apply(image, numbers(brightness=1.0), 0, ("color",)), image + 0.5, atol=1e-5)
    assert torch.allclose(
        augment.apply(image, numbers(contrast=0.0), 0, ("color",)), 15.5 + (image - 15.5) / 2, atol=1e-5
    )
    grey = augment.apply(image, numbers(saturation=0.0), 0, ("color",))
    assert torch.allclose(grey[:, 0], grey[:, 1])
    assert torch.allclose(grey[:, 0], image.mean(1), atol=1e-5)
    hole = augment.apply(image + 1, numbers(row=0.99, column=0.5), 0, ("cutout",))[0, 0] == 0
    assert hole.nonzero().tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
    # turned by 15 degrees there and back, a smooth picture is itself in its middle
    picture = torch.linspace(-1, 1, 32)[:, None].add(torch.linspace(-1, 1, 32)).view(1, 1, 32, 32)
    back = augment.apply(augment.apply(picture, numbers(angle=1.0), 0, ("rotate",)), numbers(angle=0.0), 0, ("rotate",))
    assert torch.allclose(back[..., 10:22, 10:22], picture[..., 10:22, 10:22], atol=1e-4)
    assert not torch.allclose(augment.apply(picture, numbers(angle=1.0), 0, ("rotate",)), picture, atol=0.1)
    wide = augment.apply(
        picture, numbers(x=1.0), 0, ("scale",)
    )  # looks 1.2 times as far to the side: steeper along the columns
    assert float(
        (wide[0, 0, 16, 20] - wide[0, 0, 16, 12]) / (picture[0, 0, 16, 20] - picture[0, 0, 16, 12])
    ) == pytest.approx(1.2, abs=0.01)


def test_operations_are_siamese_where_draws_are_and_gradients_reach_the_pixels():
    images = torch.rand(3, 2, 8, 8, requires_grad=True)
    draws = augment.draw(3, 1, True, generator(0, "augment"), OPS)
    assert not torch.equal(draws.numbers[0], draws.numbers[1])
    one = augment.same(draws, 3)
    out = augment.apply(images[:1].expand(3, -1, -1, -1), one, 1, OPS)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    augment.apply(images, draws, 1, OPS).square().sum().backward()
    assert (images.grad != 0).flatten(1).any(1).all()
    assert torch.isfinite(images.grad).all()


def test_draws_without_operations_are_as_they_were():
    a, b = augment.draw(5, 2, True, generator(3, "augment")), augment.draw(5, 2, True, generator(3, "augment"), OPS)
    assert all(torch.equal(x, y) for x, y in zip(tuple(a)[:3], tuple(b)[:3], strict=True))
    assert a.numbers.shape == (5, 0)


@given(st.integers(0, 10**6))
def test_cutmix_mixes_by_area_and_leaves_what_it_was_given(seed):
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 6, 6).contiguous() + 1
    before = images.clone()
    mixed, other, share = augment.cutmix(images, generator(seed, "cutmix"))
    assert torch.equal(images, before)
    assert sorted(other.tolist()) == [0, 1, 2, 3]
    assert 0 <= share <= 1
    for i in range(4):
        taken = mixed[i] == images[other[i]]
        if other[i] != i:
            assert float(taken.double().mean()) == pytest.approx(share)
            assert torch.equal(mixed[i][~taken], images[i][~taken])


def test_whether_anything_is_flipped_is_told_by_the_shape():
    """So that no step waits for the device to know it; the draws are the same with and without."""
    without, with_flips = (augment.draw(5, 1, flip, generator(0, "augment")) for flip in (False, True))
    assert without.flips.shape == (5, 0) and with_flips.flips.shape == (5, 1)
    assert torch.equal(without.rows, with_flips.rows) and with_flips.flips.any()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_operations_leave_the_type_of_the_images(kind):
    ops = ("color", "scale", "rotate", "cutout")
    draws = augment.draw(3, 1, True, generator(0, "augment"), ops)
    assert augment.apply(torch.ones(3, 1, 8, 8, dtype=kind), draws, 1, ops).dtype == kind
