"""FedJAX: its Federated Averaging over its `jit` backend."""

# ruff: noqa: E402
import sys
from importlib.metadata import version

import jax

jax.tree_map = jax.tree_util.tree_map  # gone from JAX, and FedJAX's newest release still calls it
import fedjax
import haiku as hk
import jax.numpy as jnp
from fedjax.algorithms import fed_avg
from line import Line, Workload

LAYERS = ("conv2_d", "conv2_d_1", "linear", "linear_1")  # as Haiku names them


def forward(batch):
    """McMahan's CNN."""
    pool = hk.MaxPool(window_shape=(2, 2, 1), strides=(2, 2, 1), padding="VALID")
    network = hk.Sequential(
        [
            *(hk.Conv2D(32, 5), jax.nn.relu, pool),
            *(hk.Conv2D(64, 5), jax.nn.relu, pool),
            *(hk.Flatten(), hk.Linear(512), jax.nn.relu, hk.Linear(10)),
        ]
    )
    return network(batch["x"])


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])
    pixels, labels = work.client(0, 0)
    model = fedjax.create_model_from_haiku(
        hk.transform(forward),
        {"x": pixels[: work.batch_size], "y": labels[: work.batch_size]},
        train_loss=lambda batch, logits: fedjax.metrics.unreduced_cross_entropy_loss(
            batch["y"], logits
        ),
    )
    algorithm = fed_avg.federated_averaging(
        fedjax.model_grad(model),
        client_optimizer=fedjax.optimizers.sgd(work.learning_rate),
        server_optimizer=fedjax.optimizers.sgd(1.0),
        client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(work.batch_size, skip_shuffle=True),
    )
    pairs = zip(work.weights[::2], work.weights[1::2], strict=True)
    first = {
        layer: {"w": jnp.asarray(kernel), "b": jnp.asarray(bias)}
        for layer, (kernel, bias) in zip(LAYERS, pairs, strict=True)
    }
    state = algorithm.init(first)
    line = Line(version("fedjax"))

    def weights():
        return [state.params[layer][part] for layer in LAYERS for part in ("w", "b")]

    while (number := line.next_round(weights)) is not None:
        keys = jax.random.split(jax.random.PRNGKey(number), work.cohorts.shape[1])
        clients = [
            (client, fedjax.ClientDataset({"x": pixels, "y": labels}), key)
            for client, (pixels, labels), key in zip(
                work.cohorts[number], work.cohort(number), keys, strict=True
            )
        ]
        state, _ = algorithm.apply(state, clients)
        jax.block_until_ready(state.params)


if __name__ == "__main__":
    main()
