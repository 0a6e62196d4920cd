"""What Flower's workers run, in a module of its own: imported once, not sent with each call."""

import functools
import os

import tensorflow as tf
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from line import Workload
from network import mcmahan_cnn

app = ClientApp()
work = functools.cache(Workload)


@functools.cache
def compiled() -> tf.keras.Model:
    """Return McMahan's CNN, compiled once in each worker."""
    network = mcmahan_cnn()
    network.compile(
        tf.keras.optimizers.SGD(),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return network


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the images of the client that the server names."""
    workload = work(os.environ["BENCH_WORKLOAD"])
    config = message.content["config"]
    pixels, labels = workload.client(config["client"], config["number"])
    model = compiled()
    model.optimizer.learning_rate = workload.learning_rate
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    model.fit(pixels, labels, workload.batch_size, shuffle=False, verbose=0)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.get_weights()),
            "metrics": MetricRecord({"num-examples": len(labels)}),
        }
    )
    return Message(content=content, reply_to=message)
