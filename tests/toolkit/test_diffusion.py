"""The samplers against data whose exact denoiser is known, guidance, and seeds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from medzoo.errors import ConfigError
from medzoo.specs import ImageSpec
from medzoo.toolkit.diffusion.process import (
    DiffusionModel,
    ForwardProcess,
    GuidedDenoiser,
    make_scheduler,
    noise_ahead,
    sample_clean,
    seeded_noise,
    signal_and_noise,
    to_clean,
    visited_timesteps,
)
from medzoo.toolkit.settings import PREDICTIONS, DiffusionSettings, PixelDiffusionSettings, SamplingSettings

CPU = torch.device("cpu")
SAMPLERS = ["dpm-solver++", "sde-dpm-solver++", "ddim", "ddpm"]
SCHEDULES = ["linear", "scaled_linear", "cosine"]
SHAPE = (1, 8, 8)

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def sample(denoiser, *, sampler="dpm-solver++", steps=20, schedule="cosine", of=1000, seeds=range(64), learned=False):
    return sample_clean(
        denoiser,
        list(seeds),
        SHAPE,
        sampling=SamplingSettings(scheduler=sampler, num_inference_steps=steps),
        diffusion=DiffusionSettings(beta_schedule=schedule, num_train_timesteps=of),
        learned_variance=learned,
        device=CPU,
    )


def gaussian_denoiser(mean, spread, *, schedule="cosine", variance=None):
    """E[clean | noisy] where every pixel is N(mean, spread^2): what a perfect network would say."""
    alpha, sigma = signal_and_noise(DiffusionSettings(beta_schedule=schedule))

    def denoise(noisy, timestep):
        a, s = alpha[timestep], sigma[timestep]
        gain = a * spread**2 / (a**2 * spread**2 + s**2)
        place = None if variance is None else torch.full_like(noisy, variance)
        return mean + gain * (noisy - a * mean), place

    return denoise


def point_denoiser(target, variance=None):
    """The same where every image is `target`."""
    place = None if variance is None else torch.full((1, *SHAPE), variance)
    return lambda noisy, timestep: (
        target.expand_as(noisy),
        None if place is None else place.expand_as(noisy),
    )


@every_schedule
def test_signal_and_noise_unit_variance(schedule):
    alpha, sigma = signal_and_noise(DiffusionSettings(beta_schedule=schedule))
    assert alpha.shape == sigma.shape == (1000,)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(1000))
    assert (alpha.diff() < 0).all()
    assert alpha[0] > 0.999
    assert alpha[-1] < 0.1


def test_signal_and_noise_cosine_matches_nichol_dhariwal():
    alpha, _ = signal_and_noise(DiffusionSettings(beta_schedule="cosine"))
    steps = torch.arange(1, 900, dtype=torch.float64)

    def kept(t):
        return torch.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = kept(steps) / kept(torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(alpha[:899].double() ** 2, expected, atol=1e-5)


@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 61])
def test_sample_single_image_data_exact(sampler, steps):
    target = torch.linspace(-1, 1, 64).view(1, *SHAPE)
    images = sample(point_denoiser(target), sampler=sampler, steps=steps, seeds=range(3))
    assert images.dtype == torch.float32
    assert torch.equal(images, target.expand(3, *SHAPE))


@pytest.mark.parametrize("variance", [-1.0, 0.0, 1.0])
def test_sample_last_step_adds_no_noise(variance):
    target = torch.zeros(1, *SHAPE)
    images = sample(point_denoiser(target, variance), sampler="ddpm", steps=5, seeds=range(3), learned=True)
    assert torch.equal(images, target.expand(3, *SHAPE))


@every_sampler
@every_schedule
def test_sample_gaussian_data_mean_and_std(sampler, schedule):
    denoise = gaussian_denoiser(0.3, 0.15, schedule=schedule)
    images = sample(denoise, sampler=sampler, steps=1000, schedule=schedule)
    assert images.mean().item() == pytest.approx(0.3, abs=0.01)
    assert images.std().item() == pytest.approx(0.15, rel=0.03)


def test_sample_twenty_steps_second_order_is_closest():
    spread = {}
    for sampler in SAMPLERS:
        images = sample(gaussian_denoiser(-0.2, 0.3), sampler=sampler, steps=20)
        assert images.mean().item() == pytest.approx(-0.2, abs=0.02)
        spread[sampler] = images.std().item() / 0.3
    assert 0.9 < spread["dpm-solver++"] < 1.02
    assert 0.7 < spread["ddpm"] < spread["ddim"] < spread["dpm-solver++"]


@pytest.mark.parametrize("steps", [61, 150, 600, 999])
def test_sample_num_steps_not_dividing_schedule(steps):
    images = sample(gaussian_denoiser(0.3, 0.15), sampler="ddim", steps=steps, seeds=range(16))
    assert images.std().item() == pytest.approx(0.15, rel=0.1)


def test_sample_ddim_matches_closed_form():
    alpha, sigma = (scale.double() for scale in signal_and_noise(DiffusionSettings()))
    denoise = gaussian_denoiser(0.1, 0.3)
    noisy = seeded_noise([5], SHAPE)[0].double()
    *timesteps, last = visited_timesteps(10, of=1000)
    for now, after in zip(timesteps, [*timesteps[1:], last], strict=True):
        clean = denoise(noisy, now)[0]
        noise = (noisy - alpha[now] * clean) / sigma[now]
        noisy = alpha[after] * clean + sigma[after] * noise
    expected = denoise(noisy, last)[0]
    images = sample(denoise, sampler="ddim", steps=10, seeds=[5])
    assert torch.allclose(images.double(), expected, atol=1e-5)


def test_sample_ddpm_learned_variance():
    def drawn(variance, *, learned=True, steps=50):
        return sample(gaussian_denoiser(0.0, 0.1, variance=variance), sampler="ddpm", steps=steps, learned=learned)

    lower, upper = drawn(-1.0), drawn(1.0)
    assert torch.allclose(lower, drawn(None, learned=False), atol=1e-5), "the lower bound is the posterior variance"
    assert upper.std() > lower.std() * 1.02
    assert lower.std() < drawn(0.0).std() < upper.std()


def test_sample_only_stochastic_samplers_draw_extra_noise():
    for sampler in SAMPLERS:
        seen = []

        def denoise(noisy, timestep, seen=seen):
            seen.append(noisy)
            return torch.zeros_like(noisy), None

        sample(denoise, sampler=sampler, steps=3, seeds=[1])
        direction = (seen[1] / seen[0]).flatten()
        assert bool((direction - direction[0]).abs().max() > 1e-3) == (sampler in ("ddpm", "sde-dpm-solver++"))


@every_sampler
def test_sample_image_depends_only_on_its_seed(sampler):
    denoise = gaussian_denoiser(0.0, 0.3)
    whole = sample(denoise, sampler=sampler, seeds=[3, 2**62 + 1, 5, 7])
    assert torch.equal(whole[1:2], sample(denoise, sampler=sampler, seeds=[2**62 + 1]))
    assert torch.equal(whole.flip(0), sample(denoise, sampler=sampler, seeds=[7, 5, 2**62 + 1, 3]))
    assert (torch.cdist(whole.flatten(1), whole.flatten(1)) + 9 * torch.eye(4)).min() > 1.0


def test_seeded_noise_is_standard_normal():
    noise, generators = seeded_noise(range(200), (1, 16, 16))
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1.0, abs=0.01)
    again = torch.Generator().manual_seed(7)
    assert torch.equal(noise[7], torch.randn(1, 16, 16, generator=again))
    assert torch.equal(torch.randn(5, generator=generators[7]), torch.randn(5, generator=again))


def test_noise_ahead_continues_each_generator():
    _, generators = seeded_noise(range(5), SHAPE)
    drawn = list(noise_ahead(generators, SHAPE, draws=3, device=CPU))
    again = torch.Generator().manual_seed(4)
    torch.randn(SHAPE, generator=again)
    assert len(drawn) == 3
    assert all(torch.equal(noise[4], torch.randn(SHAPE, generator=again)) for noise in drawn)
    assert torch.equal(torch.randn(5, generator=generators[4]), torch.randn(5, generator=again))


@pytest.mark.parametrize("of", [50, 1000])
def test_visited_timesteps_count_and_order(of):
    for steps in range(1, of + 1):
        visited = visited_timesteps(steps, of=of)
        assert len(visited) == steps
        assert visited[0] == of - 1
        assert visited[-1] >= 0
        assert all(after < before for before, after in itertools.pairwise(visited))
    assert visited == list(range(of - 1, -1, -1))
    assert visited_timesteps(of + 7, of=of) == visited


@every_sampler
def test_make_scheduler_uses_visited_timesteps(sampler):
    scheduler = make_scheduler(
        SamplingSettings(scheduler=sampler, num_inference_steps=61), DiffusionSettings(), learned_variance=False
    )
    assert scheduler.timesteps.tolist() == visited_timesteps(61, of=1000)


every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


def forward_process(**settings):
    return ForwardProcess(DiffusionSettings(**settings), null=torch.tensor(2), device=torch.device("cpu"))


@every_prediction
def test_to_clean_of_target_is_clean(prediction):
    add_noise = forward_process(prediction_type=prediction, num_train_timesteps=20)
    clean = torch.rand(64, *SHAPE) - 0.5
    given = add_noise(clean, torch.zeros(64, dtype=torch.int64), torch.Generator().manual_seed(0))
    recovered = to_clean(given.target, given.noisy, alpha=given.alpha, sigma=given.sigma, settings=add_noise.settings)
    usable = given.steps < 19  # the cosine schedule ends in pure noise
    assert torch.allclose(recovered[usable], clean[usable], atol=1e-3)


@pytest.mark.parametrize("beta_schedule", ["linear", "cosine"])
def test_forward_process_edm_input_and_target_of_unit_variance(beta_schedule):
    add_noise = forward_process(prediction_type="edm", sigma_data=0.25, beta_schedule=beta_schedule)
    clean = 0.25 * torch.randn(2000, 1, 8, 8)
    given = add_noise(clean, torch.zeros(2000, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert given.inputs.var().item() == pytest.approx(1.0, abs=0.02)
    assert given.target.var().item() == pytest.approx(1.0, abs=0.02)


def test_edm_of_unit_variance_is_v_prediction():
    labels, random = torch.zeros(8, dtype=torch.int64), [torch.Generator().manual_seed(1) for _ in range(2)]
    clean = torch.rand(8, *SHAPE)
    edm = forward_process(prediction_type="edm", sigma_data=1.0)(clean, labels, random[0])
    v = forward_process(prediction_type="v_prediction")(clean, labels, random[1])
    assert torch.allclose(edm.inputs, v.inputs, atol=1e-5)
    assert torch.allclose(edm.target, v.target, atol=1e-4)


def test_timesteps_lognormal_of_noise_level():
    add_noise = forward_process(timestep_sampling="lognormal", noise_mean=-0.5, noise_std=0.8)
    steps = add_noise.timesteps(20_000, torch.Generator().manual_seed(0))
    level = (add_noise.sigma / add_noise.alpha).log()[steps]
    assert level.mean().item() == pytest.approx(-0.5, abs=0.03)
    assert level.std().item() == pytest.approx(0.8, abs=0.03)
    extreme = forward_process(timestep_sampling="lognormal", noise_mean=9.9, noise_std=5.0)
    assert extreme.timesteps(1000, torch.Generator().manual_seed(0)).max().item() == 999


@every_prediction
def test_loss_weights_count_clean_error_by_capped_snr(prediction):
    add_noise = forward_process(prediction_type=prediction)
    steps = torch.tensor([5, 200, 500, 900])
    alpha, sigma = add_noise.alpha[steps], add_noise.sigma[steps]
    noisy = torch.zeros(4)
    one, other = (
        to_clean(torch.full((4,), value), noisy, alpha=alpha, sigma=sigma, settings=add_noise.settings)
        for value in (0.0, 1.0)
    )
    by_clean = add_noise.loss_weights(steps, 5.0) / (one - other).square()
    ratio = (alpha / sigma).square()
    assert torch.allclose(by_clean, ratio.clamp(max=5.0), rtol=1e-4)
    assert add_noise.loss_weights(steps, 0.0) is None


class CountingNetwork:
    """Predicts noise equal to the label, and the label's negative as variance; keeps what it was given."""

    def __init__(self, *, outputs=1):
        self.outputs = outputs
        self.batches = []

    def __call__(self, noisy, timesteps, labels):
        self.batches.append((noisy.shape[0], timesteps.tolist(), labels.tolist()))
        predicted = labels.float().view(-1, 1, 1, 1).expand_as(noisy)
        return torch.cat([predicted, -predicted], dim=1) if self.outputs == 2 else predicted


def guided(network, *, guidance, labels=(0, 1), interval=()):
    return GuidedDenoiser(
        network,
        torch.tensor(labels),
        null=torch.tensor(2),
        guidance=guidance,
        settings=DiffusionSettings(beta_schedule="linear"),
        interval=interval,
    )


def test_guided_scale_1_single_forward():
    network = CountingNetwork()
    guided(network, guidance=1.0)(torch.zeros(2, *SHAPE), 400)
    assert network.batches == [(2, [400, 400], [0, 1])]


def test_guided_single_forward_of_doubled_batch():
    network = CountingNetwork()
    guided(network, guidance=3.0)(torch.zeros(2, *SHAPE), 400)
    assert network.batches == [(4, [400] * 4, [0, 1, 2, 2])]


def test_guided_interval_spares_unlabeled_half_outside():
    alpha, sigma = signal_and_noise(DiffusionSettings(beta_schedule="linear"))
    levels = (sigma / alpha).tolist()
    low, inside, high = 200, 400, 600
    interval = (levels[low] * 1.001, levels[high] * 1.001)
    noisy = torch.randn(2, *SHAPE)
    network = CountingNetwork()
    denoise = guided(network, guidance=3.0, interval=interval)
    found = {timestep: denoise(noisy, timestep)[0] for timestep in (low, inside, high, high + 1)}
    assert [rows for rows, *_ in network.batches] == [2, 4, 4, 2]
    for timestep, guidance in ((low, 1.0), (inside, 3.0), (high, 3.0), (high + 1, 1.0)):
        assert torch.equal(found[timestep], guided(CountingNetwork(), guidance=guidance)(noisy, timestep)[0])


@pytest.mark.parametrize("interval", [(0.3,), (5.0, 0.3), (1.0, 1.0), (0.1, 1.0, 2.0)])
def test_sampling_settings_interval_refused(interval):
    with pytest.raises(ConfigError, match=r"sampling.guidance_interval = \[.*\]: two noise levels are needed"):
        SamplingSettings(guidance_interval=interval)


def test_pattern_that_does_not_fill_images_is_refused():
    settings = PixelDiffusionSettings(sampling=SamplingSettings(remove_pattern=3))
    with pytest.raises(ConfigError, match=r"sampling.remove_pattern = 3: squares of that side do not fill 16 pixels"):
        DiffusionModel(settings, ImageSpec(size=16, channels=1, classes=("one", "two")))


def test_guided_moves_away_from_unconditional_prediction():
    alpha, sigma = (scale[300].item() for scale in signal_and_noise(DiffusionSettings(beta_schedule="linear")))
    clean, variance = guided(CountingNetwork(outputs=2), guidance=1.5)(torch.zeros(2, *SHAPE), 300)
    predicted = torch.tensor([2 + 1.5 * (0 - 2), 2 + 1.5 * (1 - 2)])
    expected = (-sigma * predicted / alpha).clamp(-1, 1)
    assert torch.allclose(clean, expected.view(2, 1, 1, 1).expand_as(clean), atol=1e-5)
    assert torch.equal(variance, torch.tensor([0.0, -1.0]).view(2, 1, 1, 1).expand_as(variance)), "the labelled half's"


def test_guided_scale_1_and_0_match_plain_predictions():
    noisy = torch.randn(2, *SHAPE)
    plain = guided(CountingNetwork(), guidance=1.0)(noisy, 300)[0]
    assert torch.allclose(guided(CountingNetwork(), guidance=1.0000001)(noisy, 300)[0], plain, atol=1e-4)
    unlabelled = guided(CountingNetwork(), guidance=0.0)(noisy, 300)[0]
    assert torch.allclose(unlabelled, guided(CountingNetwork(), guidance=1.0, labels=(2, 2))(noisy, 300)[0])


def test_guided_clips_to_data_range_in_float32():
    def network(noisy, timesteps, labels):
        return torch.full_like(noisy, 9.0).bfloat16()

    clean, variance = guided(network, guidance=1.0)(torch.zeros(2, *SHAPE), 999)
    assert clean.dtype == torch.float32
    assert (clean == -1.0).all()
    assert variance is None


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 61, 500, 999, 1000, 2000])
def test_visited_timesteps_quadratic_denser_near_image(steps):
    visited = visited_timesteps(steps, of=1000, spacing="quadratic")
    assert len(visited) == min(steps, 1000)
    assert visited[0] == 999
    assert visited[-1] >= 0
    assert all(later < earlier for earlier, later in itertools.pairwise(visited))
    if 2 < steps <= 500:
        assert visited[-2] < visited_timesteps(steps, of=1000)[-2]


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
@every_schedule
@pytest.mark.parametrize(
    ("steps", "of"), [(1, 1000), (2, 1000), (12, 1000), (999, 1000), (1000, 1000), (8, 300), (5, 3)]
)
def test_visited_timesteps_spacing_count_and_order(spacing, schedule, steps, of):
    alpha, sigma = signal_and_noise(DiffusionSettings(beta_schedule=schedule))
    visited = visited_timesteps(steps, of=of, spacing=spacing, noise_levels=(sigma / alpha).double().numpy())
    assert len(visited) == min(steps, of)
    assert of > visited[0] >= visited[-1] >= 0
    assert all(later < earlier for earlier, later in itertools.pairwise(visited))
    if 1 < steps <= 12:
        assert visited[-1] == 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within diffusers
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_visited_timesteps_noise_levels_match_diffusers(spacing):
    """diffusers' own lie between timesteps, ours on them; the last of both is the first timestep's level."""
    from diffusers import DPMSolverMultistepScheduler

    diffusion = DiffusionSettings(beta_schedule="scaled_linear")
    own = make_scheduler(
        SamplingSettings(num_inference_steps=12, timestep_spacing=spacing), diffusion, learned_variance=False
    )
    theirs = DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", beta_end=0.02, **{f"use_{spacing}_sigmas": True}
    )
    theirs.set_timesteps(12)
    alpha, sigma = signal_and_noise(diffusion)
    assert torch.allclose(own.sigmas, theirs.sigmas, rtol=0.05)
    assert torch.allclose(own.sigmas[:-1], (sigma / alpha)[own.timesteps])


def test_visited_timesteps_cosine_starts_within_karras_levels():
    alpha, sigma = signal_and_noise(DiffusionSettings())
    levels = (sigma / alpha).double().numpy()
    assert levels[-1] > 10_000
    for spacing in ("karras", "exponential"):
        first, second, *_ = visited_timesteps(12, of=1000, spacing=spacing, noise_levels=levels)
        assert 60 < levels[first] < 100
        assert levels[second] > 10


def test_sample_quadratic_spacing_keeps_grain():
    shares = {}
    for spacing in ("uniform", "quadratic", "karras", "exponential", "beta"):
        sampling = SamplingSettings(num_inference_steps=20, timestep_spacing=spacing)
        images = sample_clean(
            gaussian_denoiser(0.1, 0.05),
            range(64),
            SHAPE,
            sampling=sampling,
            diffusion=DiffusionSettings(),
            learned_variance=False,
            device=CPU,
        )
        shares[spacing] = images.std().item() / 0.05
    assert shares["uniform"] < 0.6
    assert [shares[spacing] for spacing in ("karras", "exponential", "beta")] == pytest.approx([1.0] * 3, abs=0.1)


def vary(sampler, source, *, strength, spacing="uniform", of=1000, denoiser=None, learned=False, seeds=(5, 6)):
    """Vary `source` in 25 steps; return the images and the timesteps visited."""
    visited = []
    own = denoiser or gaussian_denoiser(0.0, 0.3, variance=0.2 if learned else None)

    def denoise(noisy, timestep):
        visited.append((timestep, noisy))
        return own(noisy, timestep)

    sampling = SamplingSettings(scheduler=sampler, num_inference_steps=25, strength=strength, timestep_spacing=spacing)
    images = sample_clean(
        denoise,
        seeds,
        SHAPE,
        sampling=sampling,
        diffusion=DiffusionSettings(num_train_timesteps=of),
        learned_variance=learned,
        device=CPU,
        source=source,
    )
    return images, visited


@every_sampler
@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_sample_clean_source_starts_at_its_share_of_the_schedule(sampler, spacing):
    source = torch.linspace(-1, 1, 128).view(2, *SHAPE)
    _, visited = vary(sampler, source, strength=0.3, spacing=spacing)
    timesteps = [timestep for timestep, _ in visited]
    assert timesteps == visited_timesteps(8, of=300, spacing=spacing)
    assert timesteps[0] == 299
    alpha, sigma = (scale[timesteps[0]] for scale in signal_and_noise(DiffusionSettings()))
    assert torch.allclose(visited[0][1], alpha * source + sigma * seeded_noise((5, 6), SHAPE)[0])


@every_sampler
def test_sample_clean_source_point_is_reached(sampler):
    target = torch.full((1, *SHAPE), 0.25)
    images, visited = vary(
        sampler, torch.zeros(2, *SHAPE), strength=0.5, denoiser=point_denoiser(target), learned=False
    )
    assert torch.allclose(images, target.expand(2, *SHAPE), atol=1e-4)
    alpha, sigma = signal_and_noise(DiffusionSettings())
    for timestep, noisy in visited[1:]:  # what is left of the noise is what the schedule says
        spread = (noisy - alpha[timestep] * target).std() / sigma[timestep]
        assert 0.7 < spread < 1.3


@every_sampler
def test_sample_clean_strength_one_ignores_source(sampler):
    source = torch.rand(2, *SHAPE)
    plain, visited = vary(sampler, None, strength=1.0, learned=sampler == "ddpm")
    given, _ = vary(sampler, source, strength=1.0, learned=sampler == "ddpm")
    assert len(visited) == 25
    assert torch.equal(plain, given)


@every_sampler
def test_sample_clean_source_row_depends_on_own(sampler):
    source = torch.linspace(-1, 1, 192).view(3, *SHAPE)
    whole, _ = vary(sampler, source, strength=0.4, seeds=(1, 2, 3), learned=True)
    alone, _ = vary(sampler, source[1:2], strength=0.4, seeds=(2,), learned=True)
    assert torch.allclose(whole[1:2], alone, atol=1e-6)


def test_sample_clean_source_one_step():
    images, visited = vary("dpm-solver++", torch.zeros(2, *SHAPE), strength=0.001)
    assert [timestep for timestep, _ in visited] == [0]
    assert images.std() > 0


@every_sampler
def test_sample_clean_more_strength_strays_further(sampler):
    source = torch.full((2, *SHAPE), 0.9)
    apart = [
        (vary(sampler, source, strength=strength, learned=sampler == "ddpm")[0] - source).abs().mean().item()
        for strength in (0.1, 0.4, 0.8)
    ]
    assert apart == sorted(apart)
