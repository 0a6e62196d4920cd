"""Differential privacy: what clips, what the accountant counts, what an audit may claim."""

from fedcourse import privacy, runtime  # isort: skip  (before TensorFlow)

import math

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import norm

from fedcourse.privacy import auditing

DELTA = 1e-5
seeds = st.integers(0, 2**32 - 1)


# --- the mechanism --------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=seeds, clients=st.integers(0, 8), size=st.integers(1, 30), clip_norm=st.floats(0.01, 9))
def test_nobody_adds_more_than_the_clip_norm(seed, clients, size, clip_norm):
    updates = np.random.default_rng(seed).normal(0, 3, (clients, size))
    clipped = privacy.clip(updates, clip_norm)
    lengths = np.linalg.norm(updates, axis=1)
    np.testing.assert_allclose(
        np.linalg.norm(clipped, axis=1), np.minimum(lengths, clip_norm), rtol=1e-9
    )
    short = lengths <= clip_norm
    np.testing.assert_array_equal(clipped[short], updates[short])
    cosines = (clipped * updates).sum(axis=1) / lengths / np.linalg.norm(clipped, axis=1)
    np.testing.assert_allclose(cosines, 1)


def test_an_update_of_zeros_stays_zero():
    np.testing.assert_array_equal(privacy.clip(np.zeros((2, 3)), 1.0), np.zeros((2, 3)))


@settings(deadline=None)
@given(seed=seeds, clients=st.integers(1, 8), clip_norm=st.floats(0.01, 9))
def test_without_noise_one_client_moves_the_sum_by_the_clip_norm_at_most(seed, clients, clip_norm):
    updates = np.random.default_rng(seed).normal(0, 3, (clients, 20))

    def total(some):
        return 5 * privacy.private_mean(some, clip_norm, 0.0, 5.0, np.random.default_rng(0))

    moved = np.linalg.norm(total(updates) - total(updates[1:]))
    assert moved <= clip_norm * (1 + 1e-9)
    np.testing.assert_allclose(total(updates), privacy.clip(updates, clip_norm).sum(axis=0))


@pytest.mark.parametrize("clients", [0, 3])
def test_noise_has_its_strength_whoever_is_there(clients):
    updates = np.zeros((clients, 100_000))
    mean = privacy.private_mean(updates, 0.5, 3.0, 10.0, np.random.default_rng(0))
    assert mean.std() == pytest.approx(3.0 * 0.5 / 10, rel=0.01)
    assert abs(mean.mean()) < 5 * mean.std() / math.sqrt(len(mean))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0 must be above 0"),
        ({"clip_norm": math.inf}, "clip_norm=inf must be above 0, and finite"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0 must be 0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier=nan"),
        ({"expected_clients": 0}, "expected_clients=0 must be above 0"),
        ({"updates": np.array([[1.0, np.nan]])}, "leave these clients out"),
    ],
)
def test_mechanism_refuses(changed, said):
    good = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_clients": 2.0}
    arguments = {"updates": np.ones((2, 3)), "generator": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=said):
        privacy.private_mean(**(arguments | good | changed))


def test_cohort_is_drawn_client_by_client_and_again_the_same():
    clients = [f"writer_{n}" for n in range(2000)]
    sizes = [len(privacy.poisson_cohort(clients, 0.1, 7, number)) for number in range(200)]
    assert np.mean(sizes) == pytest.approx(200, rel=0.02)
    assert np.var(sizes) == pytest.approx(2000 * 0.1 * 0.9, rel=0.35)  # binomial, not fixed
    one = privacy.poisson_cohort(clients, 0.1, 7, 3)
    assert one == privacy.poisson_cohort(clients, 0.1, 7, 3) == sorted(one, key=clients.index)
    assert one != privacy.poisson_cohort(clients, 0.1, 7, 4)
    assert privacy.poisson_cohort(clients, 0, 7, 3) == []
    assert privacy.poisson_cohort(clients, 1, 7, 3) == clients
    with pytest.raises(ValueError, match=r"probability=1\.5"):
        privacy.poisson_cohort(clients, 1.5, 7, 3)


# --- what it costs --------------------------------------------------------------------------------


def exact(noise_multiplier, rounds, delta=DELTA):
    """The ε of the Gaussian mechanism without sampling, in closed form (Balle and Wang 2018)."""
    mu = math.sqrt(rounds) / noise_multiplier

    def excess(e):
        return norm.cdf(mu / 2 - e / mu) - np.exp(e + norm.logcdf(-mu / 2 - e / mu)) - delta

    return optimize.brentq(excess, 0, mu**2 + 20 * mu)


@pytest.mark.parametrize("noise_multiplier", [0.05, 0.3, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("rounds", [1, 20])
def test_epsilon_without_sampling_is_the_closed_form_and_never_below(noise_multiplier, rounds):
    counted, true = (
        privacy.epsilon(noise_multiplier, 1, rounds, DELTA),
        exact(noise_multiplier, rounds),
    )
    assert true * (1 - 1e-6) <= counted <= true * 1.01


@pytest.mark.parametrize(
    ("noise", "q", "rounds"), [(1.2, 0.0355, 100), (1, 0.2, 20), (4, 0.01, 1000)]
)
def test_epsilon_with_sampling_is_below_what_another_accountant_counts(noise, q, rounds):
    other = rdp.RdpAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
    looser = other.compose(sampled, rounds).get_epsilon(DELTA)
    assert 0.7 * looser < privacy.epsilon(noise, q, rounds, DELTA) < looser


def test_epsilon_of_abadi_et_al():
    """2016, section 3.2: 1.26 by the moments accountant; Bu et al. 2020 give the limit."""
    q, noise, steps = 0.01, 4, 10_000
    limit = exact(1 / (q * math.sqrt(steps * math.expm1(1 / noise**2))), 1)
    counted = privacy.epsilon(noise, q, steps, DELTA)
    assert counted < 1.26 and counted == pytest.approx(limit, rel=0.03)


def test_epsilon_falls_with_noise_and_rises_with_rounds_and_sampling():
    by_noise = [privacy.epsilon(z, 0.2, 20, DELTA) for z in (0, 0.001, 0.1, 0.5, 1, 5, 100)]
    assert by_noise[0] == math.inf and by_noise == sorted(by_noise, reverse=True)
    for row in (
        [privacy.epsilon(1, 0.2, rounds, DELTA) for rounds in (1, 5, 50)],
        [privacy.epsilon(1, q, 20, DELTA) for q in (0.01, 0.1, 0.5, 1)],
        [privacy.epsilon(1, 0.2, 20, delta) for delta in (1e-3, 1e-5, 1e-9)],
    ):
        assert row == sorted(row) and len(set(row)) == len(row)


@pytest.mark.parametrize("target", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("sampling", [0.1, 1])
def test_noise_for_an_epsilon_is_the_least(target, sampling):
    noise = privacy.noise_for(target, sampling, 20, DELTA)
    assert privacy.epsilon(noise, sampling, 20, DELTA) <= target
    assert privacy.epsilon(noise / 1.002, sampling, 20, DELTA) > target


def test_no_noise_for_no_privacy_nor_where_delta_covers_being_drawn_at_all():
    assert privacy.noise_for(math.inf, 0.1, 20, DELTA) == 0
    assert privacy.noise_for(1, 0.001, 20, 0.5) == 0 < privacy.noise_for(1, 0.001, 20, 0.015)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1, 0.1, 20, DELTA), "noise_multiplier=-1"),
        ((math.inf, 0.1, 20, DELTA), "noise_multiplier=inf"),
        ((1, 0, 20, DELTA), "sampling=0"),
        ((1, 1.1, 20, DELTA), "sampling=1.1"),
        ((1, 0.1, 0, DELTA), "rounds=0"),
        ((1, 0.1, 2.5, DELTA), "rounds=2.5"),
        ((1, 0.1, math.inf, DELTA), "rounds=inf"),
        ((1, 0.1, 20, 0), "delta=0"),
        ((1, 0.1, 20, math.nan), "delta=nan"),
    ],
)
def test_accountant_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        privacy.epsilon(*arguments)
    if "noise" not in said:
        with pytest.raises(ValueError, match=said):
            privacy.noise_for(*arguments)
    with pytest.raises(ValueError, match="target=0"):
        privacy.noise_for(0, 0.1, 20, DELTA)


# --- the tree -------------------------------------------------------------------------------------


def nodes_counted_one_by_one(rounds, taking_part):
    squares, size = 0, 1
    while size <= rounds:
        for first in range(0, rounds - size + 1, size):
            squares += sum(first <= number < first + size for number in taking_part) ** 2
        size *= 2
    return math.sqrt(squares)


@settings(deadline=None)
@given(data=st.data(), rounds=st.integers(1, 70))
def test_tree_counts_every_whole_node(data, rounds):
    taking_part = data.draw(st.sets(st.integers(0, rounds - 1)))
    counted = privacy.tree_sensitivity(rounds, sorted(taking_part))
    assert counted == pytest.approx(nodes_counted_one_by_one(rounds, taking_part))


def test_tree_by_hand():
    assert privacy.tree_sensitivity(32, [0]) == pytest.approx(math.sqrt(6))  # leaf to root
    assert privacy.tree_sensitivity(3, [2]) == 1  # its pair is never whole
    assert privacy.tree_sensitivity(4, [0, 1]) == pytest.approx(math.sqrt(1 + 1 + 4 + 4))
    for wrong in ([4], [-1], [1, 1]):
        with pytest.raises(ValueError, match="taking_part"):
            privacy.tree_sensitivity(4, wrong)


# --- the audit ------------------------------------------------------------------------------------


def gaussian_trainings(mu, seed, trainings=1000):
    """Scores as the best attack on a Gaussian mechanism sees them."""
    generator = np.random.default_rng(seed)
    return mu + generator.normal(size=trainings), generator.normal(size=trainings)


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 2.0])
def test_lower_bounds_are_below_the_true_epsilon(mu):
    """At 95 %, over 200 audits of a mechanism whose ε is known in closed form."""
    true = exact(1 / mu, 1)
    audits = [privacy.audit(*gaussian_trainings(mu, seed), DELTA) for seed in range(200)]
    lower, if_normal = (np.array(part) for part in list(zip(*audits, strict=True))[:2])
    assert np.mean(lower > true) <= 0.05
    assert np.mean(if_normal > true) <= 0.05
    if mu >= 1:  # and they are worth something
        assert np.median(lower) > mu and np.median(if_normal) > 0.6 * true


def test_no_difference_proves_hardly_anything():
    """Bounds above 0 where the truth is 0 are as rare as the confidence says."""
    bounds = [privacy.audit(*gaussian_trainings(0, seed), 0.0).lower for seed in range(200)]
    assert np.mean(np.array(bounds) > 0) <= 0.05


def test_perfect_attack_proves_what_its_trainings_allow():
    found = privacy.audit(np.ones(1000) + 1, np.ones(1000), DELTA)
    by_hand = math.log((0.025 ** (1 / 500) - DELTA) / (1 - 0.025 ** (1 / 500)))
    assert found.lower == pytest.approx(by_hand)
    assert (found.found, found.accused) == (1, 0)
    assert privacy.audit(np.ones(1000) + 1, np.ones(1000), DELTA, 0.999).lower < found.lower


@pytest.mark.parametrize("mu", [0.01, 0.5, 2.0, 6.0])
def test_epsilon_of_normals_is_what_the_accountant_counts(mu):
    counted = privacy.epsilon(1 / mu, 1, 1, DELTA)
    assert auditing._epsilon_of_normals(mu, DELTA) == pytest.approx(exact(1 / mu, 1), abs=1e-9)
    assert counted == pytest.approx(exact(1 / mu, 1), rel=0.01)
    assert auditing._epsilon_of_normals(0, DELTA) == 0
    assert auditing._epsilon_of_normals(mu, 0.0) == math.inf
    assert auditing._epsilon_of_normals(mu, 0.999) == 0


def test_scores_that_point_the_other_way_prove_nothing():
    assert privacy.audit(np.zeros(100), np.ones(100), DELTA).lower == 0


def trainings(updates, canary, clip_norm, noise, generator, repeats=2000, rounds=4):
    """Scores along the canary's direction with it and without, straight from `private_mean`."""
    direction = canary / np.linalg.norm(canary)

    def score(cohort):
        sums = [
            privacy.private_mean(cohort, clip_norm, noise, 10.0, generator) for _ in range(rounds)
        ]
        return np.sum(sums, axis=0) @ direction

    return [
        np.array([score(cohort) for _ in range(repeats)])
        for cohort in (np.vstack([updates, canary]), updates)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_audit_of_the_mechanism_agrees_with_its_accountant_and_catches_it_broken(seed):
    generator = np.random.default_rng(seed)
    updates = generator.normal(0, 0.1, (10, 20))
    canary = np.eye(20)[0] * 5
    promised = privacy.epsilon(2.5, 1, 4, DELTA)
    kept = privacy.audit(*trainings(updates, canary, 0.5, 2.5, generator), DELTA)
    assert 0 < kept.lower < promised and 0.4 * promised < kept.lower_if_normal < promised
    silent = privacy.audit(*trainings(updates, canary, 0.5, 0.0, generator), DELTA)
    assert silent.lower > promised
    unclipped = privacy.audit(*trainings(updates, canary, 5.0, 0.25, generator), DELTA)
    assert unclipped.lower > promised  # noise for a clip norm of 0.5, updates up to 5
    halved = privacy.audit(*trainings(updates, canary, 0.5, 1.25, generator), DELTA)
    assert halved.lower_if_normal > promised


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"with_canary": np.ones(3)}, "with_canary must be at least 4"),
        ({"without": np.array([1, 2, 3, np.nan])}, "without must be at least 4"),
        ({"without": np.ones((4, 2))}, "without must be"),
        ({"delta": 2}, "delta=2"),
        ({"confidence": -0.1}, "confidence=-0.1"),
    ],
)
def test_audit_refuses(changed, said):
    good = {"with_canary": np.ones(4), "without": np.zeros(4), "delta": DELTA}
    with pytest.raises(ValueError, match=said):
        privacy.audit(**(good | changed))


# --- TFF's aggregators ----------------------------------------------------------------------------

SIZE = 20_000


def aggregate(factory, vectors, rounds=1):
    """The results of an aggregator, round by round, for the same vectors each time."""
    process = factory.create(tff.TensorType(np.float32, [SIZE]))
    state, results = process.initialize(), []
    for _ in range(rounds):
        output = process.next(state, vectors)
        state = output.state
        results.append(np.asarray(output.result))
    return results


def test_tff_clips_and_divides_as_ours():
    generator = np.random.default_rng(0)
    vectors = generator.normal(0, (0.0001, 0.01, 1), (SIZE, 3)).T.astype(np.float32)
    factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(0.0, 4.0, 0.5)
    (theirs,) = aggregate(factory, list(vectors))
    ours = privacy.private_mean(vectors, 0.5, 0.0, 4.0, generator)
    np.testing.assert_allclose(theirs, ours, atol=1e-7)


def test_noise_of_tff_has_its_strength_and_is_new_each_round():
    factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(2.0, 10.0, 0.5)
    for vectors in ([], [np.zeros(SIZE, np.float32)] * 3):
        first, second = aggregate(factory, vectors, rounds=2)
        assert first.std() == pytest.approx(0.1, rel=0.03)
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    (again,) = aggregate(factory, [])
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.03


@pytest.mark.parametrize("efficient", [False, True])
def test_tree_of_tff_has_noise_of_one_strength_in_each_node(efficient):
    """Also where it averages a node with those below it: Honaker 2015."""
    factory = tff.aggregators.DifferentiallyPrivateFactory.tree_aggregation(
        3.0, 1.0, 2.0, tf.TensorSpec([SIZE]), use_efficient=efficient
    )
    results = aggregate(factory, [np.zeros(SIZE, np.float32)], rounds=16)
    spread = np.cumsum(results, axis=0).std(axis=1)
    of_level = [1 / (2 - 2.0**-level) if efficient else 1 for level in range(5)]
    in_sum = [sum(of_level[k] for k in range(5) if number >> k & 1) for number in range(1, 17)]
    np.testing.assert_allclose(spread, 6 * np.sqrt(in_sum), rtol=0.03)


def test_adaptive_clipping_of_tff_shares_the_noise_with_its_bit():
    from tensorflow_federated.python.aggregators import differential_privacy

    of_values, of_bits = differential_privacy.adaptive_clip_noise_params(0.1, 10.0)
    assert of_values**-2 + (2 * of_bits) ** -2 == pytest.approx(0.1**-2)


def test_distributed_noise_of_tff_has_its_strength():
    factory = tff.learning.ddp_secure_aggregator(0.1, 10, zeroing=False, rotation_type="dft")
    with runtime.simulated_secure_sums():
        (mean,) = aggregate(factory, [np.zeros(SIZE, np.float32)] * 10)
    assert 10 * mean.std() == pytest.approx(0.1 * 0.1, rel=0.03)  # the first clip norm is 0.1
