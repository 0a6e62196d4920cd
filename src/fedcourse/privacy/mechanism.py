"""Clip, add noise, sample: what makes a round of training private."""

from collections.abc import Sequence

import numpy as np

from fedcourse.privacy.checks import check_share, not_negative, positive


def clip(updates: np.ndarray, clip_norm: float) -> np.ndarray:
    """Shorten updates that are longer than `clip_norm` to that length; leave the others.

    Args:
        updates: float [..., entries].
        clip_norm: Largest length (L2 norm) to leave, above 0.

    Returns:
        The same shape.

    Raises:
        ValueError: `clip_norm` is not above 0, or an update is not finite.

    Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models,
        FlatClip.
    Lesson: 11
    """
    positive(clip_norm=clip_norm)
    lengths = np.linalg.norm(updates, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise ValueError("updates has NaN or infinity: leave these clients out")
    return updates * (clip_norm / np.maximum(lengths, clip_norm))


def private_mean(
    updates: np.ndarray,
    clip_norm: float,
    noise_multiplier: float,
    expected_clients: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return the mean of a cohort's updates as differential privacy lets it out.

    The sum of the clipped updates gets Gaussian noise of standard deviation `noise_multiplier *
    clip_norm`, and is divided by the expected size of the cohort: the true size is itself private.

    Args:
        updates: float [clients, entries]; no clients at all is a valid cohort.
        clip_norm: Largest length of an update that counts in full.
        noise_multiplier: Standard deviation of the noise over `clip_norm`; 0 is no privacy.
        expected_clients: Mean size of a cohort.
        generator: Where the noise comes from. Who can tell its seed can take the noise off.

    Returns:
        float [entries].

    Raises:
        ValueError: A number is out of range, or an update is not finite.

    Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models,
        algorithm 1, with every client's weight 1.
    Lesson: 11
    """
    positive(expected_clients=expected_clients)
    not_negative(noise_multiplier=noise_multiplier)
    total = clip(updates, clip_norm).sum(axis=0)
    noise = generator.normal(0, noise_multiplier * clip_norm, total.shape)
    return (total + noise) / expected_clients


def poisson_cohort(
    client_ids: Sequence[str], probability: float, seed: int, round_number: int
) -> list[str]:
    """Draw each client by itself with the same probability: what the accountant counts on.

    Args:
        client_ids: The clients to draw from.
        probability: Of each, 0 to 1.
        seed: The experiment's seed, 0 or more. Whoever can tell it knows the cohorts, and gains
            nothing from the sampling.
        round_number: 0 or more; with `seed` it fixes the draw.

    Returns:
        The ids drawn, in the order of `client_ids`; possibly none.

    Raises:
        ValueError: `probability` is not from 0 to 1.

    Lesson: 11
    """
    check_share(probability=probability)
    drawn = np.random.default_rng([seed, round_number]).random(len(client_ids)) < probability
    return [client for client, here in zip(client_ids, drawn, strict=True) if here]
