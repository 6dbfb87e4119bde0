"""Golden vectors for package bptt, computed in float64 apart from its code.

    /usr/bin/python3 kernel/bptt/testdata/golden/golden.py           writes the *.json beside this file
    /usr/bin/python3 kernel/bptt/testdata/golden/golden.py --check   only compares with them

needs Debian 12's python3-numpy (1.24.2) and python3-torch (1.13.1).

Layers, losses and penalties are written out here by the equations that Keras 3
documents, on torch tensors, so that their gradients come from torch's autograd.
torch.nn.LSTM and torch.nn.GRU are second witnesses of the recurrent layers, and
torch.optim, where epsilon is 0 and so cannot be in another place, of the
optimizers. Optimizers, schedules, callbacks and initializers are numpy or plain
Python, again by Keras 3: keras/src/optimizers, keras/src/optimizers/schedules,
keras/src/callbacks and keras/src/initializers.

Inputs are numbers that float32 holds exactly; results have ten digits. Tensors
are flat, row by row, in the layout of kernel.LayerWeights.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

HERE = pathlib.Path(__file__).parent
EPSILON = 1e-7  # keras.config.epsilon()


def flat(v):
    """v as a list of numbers of ten digits."""
    return [float(f"{x:.10g}") for x in np.asarray(v, dtype=np.float64).ravel()]


def even(rng, shape, limit):
    """Uniform values in ±limit, multiples of 1/256."""
    return np.round(rng.uniform(-limit, limit, shape) * 256) / 256


# Layers: x is [window][step][feature]. A recurrent layer starts from a state, or
# from 0, and gives its outputs and the state it ends in.


def lstm(x, kernel, recurrent, bias, state=None):
    units = recurrent.shape[0]
    h, c = state or (torch.zeros(x.shape[0], units),) * 2
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = (x[:, t] @ kernel + h @ recurrent + bias).split(units, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out, 1), (h, c)


def gru(x, kernel, recurrent, bias, state=None):
    """reset_after=True: bias[0] goes with the input, bias[1] with the state."""
    units = recurrent.shape[0]
    (h,) = state or (torch.zeros(x.shape[0], units),)
    out = []
    for t in range(x.shape[1]):
        xz, xr, xh = (x[:, t] @ kernel + bias[0]).split(units, dim=1)
        hz, hr, hh = (h @ recurrent + bias[1]).split(units, dim=1)
        z, r = torch.sigmoid(xz + hz), torch.sigmoid(xr + hr)
        h = z * h + (1 - z) * torch.tanh(xh + r * hh)
        out.append(h)
    return torch.stack(out, 1), (h,)


RECURRENT = {"lstm": lstm, "gru": gru}


ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": lambda z: z.clamp(min=0),
    "sigmoid": lambda z: 1 / (1 + torch.exp(-z)),
    "softmax": lambda z: torch.exp(z) / torch.exp(z).sum(-1, keepdim=True),
}


def forward(layers, weights, x, states=None):
    """The output. states, one a layer, are where it starts, and then where it ends."""
    for i, (layer, (kernel, recurrent, bias)) in enumerate(zip(layers, weights)):
        if layer["kind"] == "dense":
            x = ACTIVATIONS[layer["activation"]](x @ kernel + bias)
            continue
        x, end = RECURRENT[layer["kind"]](x, kernel, recurrent, bias, states and states[i])
        if states:
            states[i] = tuple(v.detach() for v in end)
        if not layer["sequences"]:
            x = x[:, -1:]
    return x


def witness(layer, weights, x):
    """The output of a recurrent layer of torch with the same weights."""
    units = layer["units"]
    with torch.no_grad():
        if layer["kind"] == "lstm":
            n, order = torch.nn.LSTM(x.shape[2], units, batch_first=True), [0, 1, 2, 3]
            biases = weights[2], torch.zeros(4 * units)
        else:
            n, order = torch.nn.GRU(x.shape[2], units, batch_first=True), [1, 0, 2]  # r, z, n
            biases = weights[2][0], weights[2][1]

        def gates(w):
            parts = w.split(units, dim=-1)
            return torch.cat([parts[k] for k in order], -1)

        n.weight_ih_l0.copy_(gates(weights[0]).T)
        n.weight_hh_l0.copy_(gates(weights[1]).T)
        n.bias_ih_l0.copy_(gates(biases[0]))
        n.bias_hh_l0.copy_(gates(biases[1]))
        return n(x)[0]


# Losses of each term: y and target are [window][row][output], a weight is that
# of a window. Keras divides the weighted sum by the number of terms.


def losses(kind, y, target, delta):
    if kind == "mse":
        return (y - target) ** 2
    if kind == "mae":
        return (y - target).abs()
    if kind == "huber":
        d = (y - target).abs()
        return torch.where(d <= delta, d * d / 2, delta * d - delta * delta / 2)
    if kind == "binary_crossentropy":
        p = y.clamp(EPSILON, 1 - EPSILON)
        return -(target * torch.log(p) + (1 - target) * torch.log(1 - p))
    p = (y / y.sum(-1, keepdim=True)).clamp(EPSILON, 1 - EPSILON)
    return -(target * torch.log(p)).sum(-1)


def mean_loss(kind, y, target, sample_weights, delta):
    terms = losses(kind, y, target, delta)
    if sample_weights is not None:
        terms = terms * torch.tensor(sample_weights).reshape(-1, *[1] * (terms.dim() - 1))
    return terms.sum() / terms.numel()


def dense(units, activation="linear"):
    return {"kind": "dense", "units": units, "activation": activation}


def recurrent(kind, units, sequences=False):
    return {"kind": kind, "units": units, "sequences": sequences}


def draw_weights(rng, features, layers):
    weights, width = [], features
    for layer in layers:
        u = layer["units"]
        gates = {"lstm": 4, "gru": 3, "dense": 1}[layer["kind"]]
        bias = (2, 3 * u) if layer["kind"] == "gru" else gates * u
        weights.append([
            torch.tensor(even(rng, (width, gates * u), 0.6)),
            torch.tensor(even(rng, (0 if gates == 1 else u, gates * u), 0.4)),
            torch.tensor(even(rng, bias, 0.7)),
        ])
        width = u
    return weights


def draw_targets(rng, kind, shape):
    if kind == "binary_crossentropy":
        return rng.integers(0, 2, shape).astype(np.float64)
    if kind == "categorical_crossentropy":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
    return even(rng, shape, 1)


def network(name, features, steps, layers, loss="mse", windows=5, sample_weights=None, delta=0.0, l2=(0, 0, 0), seed=1):
    """One case: the output, the loss and the gradients of one batch."""
    rng = np.random.default_rng(seed)
    weights = draw_weights(rng, features, layers)
    x = torch.tensor(even(rng, (windows, steps, features), 1))
    for layer, w in zip(layers[:1], weights):
        assert (witness(layer, w, x) - RECURRENT[layer["kind"]](x, *w)[0]).abs().max() < 1e-12
    for w in weights:
        for tensor in w:
            tensor.requires_grad_()
    y = forward(layers, weights, x)
    target = torch.tensor(draw_targets(rng, loss, tuple(y.shape)))
    value = mean_loss(loss, y, target, sample_weights, delta)
    for w in weights:
        value = value + sum(factor * (tensor**2).sum() for factor, tensor in zip(l2, w))
    value.backward()
    config = {"Loss": loss}
    if delta:
        config["HuberDelta"] = delta
    for field, factor in zip(("KernelL2", "RecurrentL2", "BiasL2"), l2):
        if factor:
            config[field] = factor
    return {
        "name": name, "features": features, "steps": steps, "layers": layers, "config": config,
        "sample_weights": sample_weights, "x": flat(x), "target": flat(target),
        "weights": [[flat(v.detach()) for v in w] for w in weights],
        "output": flat(y.detach()), "loss": float(value),
        "gradients": [[flat(v.grad if v.grad is not None else []) for v in w] for w in weights],
    }


def networks():
    weighted = [1.0, 0.5, 0.0, 3.0, 1.5]
    sets = [
        ("lstm", 3, 6, [recurrent("lstm", 5)]),
        ("lstm one unit one step", 1, 1, [recurrent("lstm", 1)]),
        ("lstm sequences", 2, 5, [recurrent("lstm", 4, True)]),
        ("lstm of 17 units", 2, 4, [recurrent("lstm", 17)]),
        ("lstm stacked", 3, 5, [recurrent("lstm", 5, True), recurrent("lstm", 4), dense(2)]),
        ("gru", 3, 6, [recurrent("gru", 5)]),
        ("gru one unit one step", 1, 1, [recurrent("gru", 1)]),
        ("gru sequences", 2, 5, [recurrent("gru", 4, True)]),
        ("gru of 17 units", 2, 4, [recurrent("gru", 17)]),
        ("gru stacked", 3, 5, [recurrent("gru", 5, True), recurrent("gru", 4), dense(2)]),
        ("lstm on gru on lstm", 2, 4, [recurrent("lstm", 3, True), recurrent("gru", 5, True), recurrent("lstm", 4), dense(1)]),
        ("dense linear", 3, 4, [recurrent("lstm", 4), dense(2)]),
        ("dense relu", 3, 4, [recurrent("lstm", 4), dense(6, "relu"), dense(2)]),
        ("dense sigmoid", 3, 4, [recurrent("gru", 4), dense(3, "sigmoid")]),
        ("dense softmax", 3, 4, [recurrent("lstm", 4), dense(3, "softmax")]),
        ("dense on sequences", 2, 4, [recurrent("gru", 4, True), dense(3, "relu"), dense(2, "softmax")]),
    ]
    out = [network(*s, seed=100 + k) for k, s in enumerate(sets)]
    for k, (loss, last, delta) in enumerate([
        ("mse", "linear", 0), ("mae", "linear", 0), ("huber", "linear", 0.25),
        ("binary_crossentropy", "sigmoid", 0), ("categorical_crossentropy", "softmax", 0),
    ]):
        layers = [recurrent("lstm", 4), dense(3, last)]
        for name, more in [("", {}), (" weighted", {"sample_weights": weighted}), (" with l2", {"l2": (0.01, 0.02, 0.05)})]:
            out.append(network(loss + name, 3, 4, layers, loss, delta=delta, seed=200 + k, **more))
        layers = [recurrent("gru", 3, True), dense(2, last)]
        out.append(network(loss + " weighted on sequences", 2, 3, layers, loss, delta=delta, seed=300 + k, sample_weights=weighted))
    return out


def loss_values():
    """Losses of given outputs, also of probabilities that are clipped."""
    out = []
    for kind, y, target, delta in [
        ("mse", [1.5, -2, 0.25], [0.5, 1, 0.25], 0),
        ("mae", [1.5, -2, 0.25], [0.5, 1, 0.25], 0),
        ("huber", [1.5, -2, 0.25, 0.75], [0.5, 1, 0, 0], 1),
        ("huber", [1.5, -2, 0.25, 0.75], [0.5, 1, 0, 0], 0.5),
        ("binary_crossentropy", [0.25, 0.5, 0.875, 0.0625], [0, 1, 1, 0], 0),
        ("binary_crossentropy", [0, 1, 0, 1], [0, 1, 1, 0], 0),
        ("categorical_crossentropy", [0.25, 0.5, 0.25, 0.125, 0.125, 0.75], [0, 1, 0, 1, 0, 0], 0),
        ("categorical_crossentropy", [1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1], 0),
    ]:
        width = 3 if kind.startswith("categorical") else 1
        rows = len(y) // width
        for weights in (None, [0.5 + 0.25 * k for k in range(rows)]):
            v, t = (torch.tensor(s, dtype=torch.float64).reshape(rows, 1, width) for s in (y, target))
            config = {"Loss": kind, **({"HuberDelta": delta} if delta else {})}
            value = mean_loss(kind, v, t, weights, delta)
            out.append({"config": config, "width": width, "y": y, "target": target, "sample_weights": weights, "loss": float(f"{value:.10g}")})
    return out


# Optimizers: update(p, g, lr) changes the list of arrays p in place.


class SGD:
    def __init__(self, p, LearningRate=0.01, Momentum=0.0, Nesterov=False):
        self.lr, self.momentum, self.nesterov = LearningRate, Momentum, Nesterov
        self.v = [np.zeros_like(x) for x in p]

    def update(self, p, g, lr):
        for x, d, v in zip(p, g, self.v):
            if self.momentum == 0:
                x -= lr * d
                continue
            v[:] = self.momentum * v - lr * d
            x += self.momentum * v - lr * d if self.nesterov else v


class RMSprop:
    def __init__(self, p, LearningRate=0.001, Rho=0.9, Momentum=0.0, Epsilon=1e-7, Centered=False):
        self.lr, self.rho, self.momentum, self.epsilon, self.centered = LearningRate, Rho, Momentum, Epsilon, Centered
        self.v, self.average, self.m = ([np.zeros_like(x) for x in p] for _ in range(3))

    def update(self, p, g, lr):
        for x, d, v, a, m in zip(p, g, self.v, self.average, self.m):
            v[:] = self.rho * v + (1 - self.rho) * d**2
            square = v
            if self.centered:
                a[:] = self.rho * a + (1 - self.rho) * d
                square = v - a**2
            m[:] = self.momentum * m + lr * d / np.sqrt(square + self.epsilon)
            x -= m


class Adam:
    def __init__(self, p, LearningRate=0.001, Beta1=0.9, Beta2=0.999, Epsilon=1e-7):
        self.lr, self.b1, self.b2, self.epsilon = LearningRate, Beta1, Beta2, Epsilon
        self.m, self.v = ([np.zeros_like(x) for x in p] for _ in range(2))
        self.t = 0

    def update(self, p, g, lr):
        self.t += 1
        alpha = lr * math.sqrt(1 - self.b2**self.t) / (1 - self.b1**self.t)
        for x, d, m, v in zip(p, g, self.m, self.v):
            m += (d - m) * (1 - self.b1)
            v += (d**2 - v) * (1 - self.b2)
            x -= alpha * m / (np.sqrt(v) + self.epsilon)


class AdamW(Adam):
    def __init__(self, p, WeightDecay=0.004, **more):
        super().__init__(p, **more)
        self.decay = WeightDecay

    def update(self, p, g, lr):
        for x in p:
            x -= x * self.decay * lr
        super().update(p, g, lr)


RULES = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def clip(g, ClipValue=0.0, ClipNorm=0.0, GlobalClipNorm=0.0):
    """The gradients after clipping; a norm is that of one variable, or of all."""
    if ClipValue:
        return [np.clip(d, -ClipValue, ClipValue) for d in g]
    if ClipNorm:
        return [d * min(1, ClipNorm / max(np.linalg.norm(d), 1e-300)) for d in g]
    if GlobalClipNorm:
        norm = math.sqrt(sum((d**2).sum() for d in g))
        return [d * min(1, GlobalClipNorm / norm) for d in g]
    return g


def torch_optimizer(name, p, c):
    """torch.optim's counterpart of a rule with epsilon 0."""
    lr = c["LearningRate"]
    if name == "sgd":
        return torch.optim.SGD(p, lr, momentum=c.get("Momentum", 0), nesterov=c.get("Nesterov", False))
    if name == "rmsprop":
        return torch.optim.RMSprop(p, lr, alpha=c.get("Rho", 0.9), eps=0, momentum=c.get("Momentum", 0), centered=c.get("Centered", False))
    betas = c.get("Beta1", 0.9), c.get("Beta2", 0.999)
    if name == "adam":
        return torch.optim.Adam(p, lr, betas, eps=0)
    return torch.optim.AdamW(p, lr, betas, eps=0, weight_decay=c.get("WeightDecay", 0.004))


def check_rule(name, config, start, gradients):
    c = {"LearningRate": 0.03, **config}
    mine = [x.copy() for x in start]
    rule = RULES[name](mine, **({**c, "Epsilon": 0} if name != "sgd" else c))
    theirs = [torch.tensor(x.copy(), requires_grad=True) for x in start]
    optimizer = torch_optimizer(name, theirs, c)
    for g in gradients:
        rule.update(mine, g, c["LearningRate"])
        for x, d in zip(theirs, g):
            x.grad = torch.tensor(d)
        optimizer.step()
    for a, b in zip(mine, theirs):
        assert np.abs(a - b.detach().numpy()).max(initial=0) < 1e-9, (name, config)


def optimizers():
    # Kernel, recurrent kernel and bias of two layers, the second a Dense. Its
    # kernel starts at 0 with gradients so small that epsilon shows.
    sizes = [4, 3, 2, 3, 0, 1]
    scales = [1, 0.1, 6, 2e-6, 1, 3e-4]
    rng = np.random.default_rng(7)
    start = [even(rng, n, 0.5) if k != 3 else np.zeros(n) for k, n in enumerate(sizes)]
    gradients = [[(even(rng, n, 1) * s).astype(np.float32).astype(np.float64) for n, s in zip(sizes, scales)] for _ in range(10)]
    cases = []
    for name, config in [
        ("sgd", {}),
        ("sgd", {"LearningRate": 0.05, "Momentum": 0.9}),
        ("sgd", {"LearningRate": 0.05, "Momentum": 0.9, "Nesterov": True}),
        ("rmsprop", {}),
        ("rmsprop", {"LearningRate": 0.02, "Rho": 0.8, "Epsilon": 1e-3}),
        ("rmsprop", {"LearningRate": 0.02, "Momentum": 0.5}),
        ("rmsprop", {"LearningRate": 0.02, "Centered": True}),
        ("rmsprop", {"LearningRate": 0.02, "Centered": True, "Momentum": 0.5}),
        ("adam", {}),
        ("adam", {"LearningRate": 0.05, "Beta1": 0.8, "Beta2": 0.9, "Epsilon": 1e-3}),
        ("adamw", {}),
        ("adamw", {"LearningRate": 0.05, "WeightDecay": 0.5}),
        ("sgd", {"LearningRate": 0.1, "ClipValue": 0.25}),
        ("sgd", {"LearningRate": 0.1, "ClipNorm": 0.75}),
        ("sgd", {"LearningRate": 0.1, "GlobalClipNorm": 0.75}),
        ("adam", {"LearningRate": 0.05, "ClipNorm": 0.5}),
    ]:
        clipping = {k: v for k, v in config.items() if k.startswith(("Clip", "Global"))}
        rule_config = {k: v for k, v in config.items() if k not in clipping}
        if not clipping:
            check_rule(name, rule_config, start, gradients)
        p = [x.copy() for x in start]
        rule = RULES[name](p, **rule_config)
        after = {}
        for t, g in enumerate(gradients):
            rule.update(p, clip(g, **clipping), rule.lr)
            after[t + 1] = flat(np.concatenate(p))
        cases.append({"config": {"Optimizer": name, **config}, "after_one": after[1], "after_ten": after[10]})
    return {
        "sizes": sizes, "start": flat(np.concatenate(start)),
        "gradients": [flat(np.concatenate(g)) for g in gradients], "cases": cases,
    }


# Schedules, by update from 0.


def piecewise(step, Boundaries, Values):
    for boundary, value in zip(Boundaries, Values):
        if step <= boundary:
            return value
    return Values[-1]


def exponential(step, initial, DecaySteps, DecayRate, Staircase=False):
    p = step / DecaySteps
    return initial * DecayRate ** (math.floor(p) if Staircase else p)


def cosine(step, initial, DecaySteps, Alpha=0.0, WarmupTarget=0.0, WarmupSteps=0):
    if WarmupSteps:
        if step < WarmupSteps:
            return initial + (WarmupTarget - initial) * step / WarmupSteps
        initial, step = WarmupTarget, step - WarmupSteps
    done = min(step, DecaySteps) / DecaySteps
    return initial * ((1 - Alpha) * 0.5 * (1 + math.cos(math.pi * done)) + Alpha)


def schedules():
    updates = [0, 1, 2, 3, 9, 10, 11, 19, 20, 21, 49, 50, 51, 99, 100, 101, 109, 110, 111, 150, 1000, 100000]
    out = []
    for kind, initial, c in [
        ("step", 0.1, {"Boundaries": [10, 50, 110], "Values": [0.1, 0.03, 0.01, 0.002]}),
        ("step", 0.1, {"Boundaries": [0], "Values": [0.5, 0.25]}),
        ("exponential", 0.1, {"DecaySteps": 20, "DecayRate": 0.9}),
        ("exponential", 0.1, {"DecaySteps": 20, "DecayRate": 0.9, "Staircase": True}),
        ("exponential", 0.1, {"DecaySteps": 10, "DecayRate": 1.01}),
        ("cosine", 0.1, {"DecaySteps": 100}),
        ("cosine", 0.1, {"DecaySteps": 100, "Alpha": 0.05}),
        ("cosine", 0.01, {"DecaySteps": 100, "WarmupTarget": 0.1, "WarmupSteps": 10}),
        ("cosine", 0.0, {"DecaySteps": 90, "Alpha": 0.1, "WarmupTarget": 0.3, "WarmupSteps": 20}),
    ]:
        rate = {"step": lambda s: piecewise(s, **c), "exponential": lambda s: exponential(s, initial, **c), "cosine": lambda s: cosine(s, initial, **c)}[kind]
        out.append({"config": {"LearningRate": initial, "Schedule": {"Kind": kind, **c}}, "updates": updates, "rates": flat([rate(s) for s in updates])})
    return out


# Callbacks, by epoch from 1.


def early_stopping(series, Patience, MinDelta=0.0, StartFromEpoch=0):
    """The epochs trained, and the one with the best weights, 0 if there is none."""
    best, best_epoch, wait = math.inf, 0, 0
    for epoch, loss in enumerate(series):
        if epoch < StartFromEpoch:
            continue
        wait += 1
        if loss + MinDelta < best:
            best, best_epoch, wait = loss, epoch + 1, 0
        elif wait >= Patience and epoch > 0:
            return epoch + 1, best_epoch
    return len(series), best_epoch


def reduce_lr(series, lr, Patience, Factor=0.1, MinDelta=1e-4, Cooldown=0, MinLR=0.0):
    """The learning rate after each epoch."""
    best, wait, cooldown, rates = math.inf, 0, 0, []
    for loss in series:
        if cooldown > 0:
            cooldown, wait = cooldown - 1, 0
        if loss < best - MinDelta:
            best, wait = loss, 0
        elif cooldown == 0:
            wait += 1
            if wait >= Patience and lr > MinLR:
                lr, cooldown, wait = max(lr * Factor, MinLR), Cooldown, 0
        rates.append(lr)
    return rates


def callbacks():
    """Series that fall, rise and stay, in sixteenths, so that equal losses and
    decreases of just MinDelta occur."""
    rng = np.random.default_rng(11)
    stops, rates = [], []
    for drift in (-1, -1, 0, 0, 1):
        series = [float(v) / 16 for v in 400 + np.cumsum(rng.integers(-3, 4, 40) + drift * rng.integers(0, 2, 40))]
        for c in [
            {"Patience": 1}, {"Patience": 3}, {"Patience": 8}, {"Patience": 3, "MinDelta": 0.125},
            {"Patience": 2, "StartFromEpoch": 6}, {"Patience": 4, "MinDelta": 0.25, "StartFromEpoch": 3},
        ]:
            epochs, best = early_stopping(series, **c)
            stops.append({"config": c, "losses": series, "epochs": epochs, "best": best})
        for c in [
            {"Patience": 2}, {"Patience": 3, "Factor": 0.5, "MinDelta": 0.125}, {"Patience": 2, "Factor": 0.5, "Cooldown": 3},
            {"Patience": 1, "Factor": 0.25, "MinLR": 0.01}, {"Patience": 4, "Factor": 0.5, "MinDelta": 0.0625, "Cooldown": 1, "MinLR": 0.0625},
        ]:
            rates.append({"config": {"LearningRate": 0.5, "ReduceLR": c}, "losses": series, "rates": flat(reduce_lr(series, 0.5, **c))})
    return {"early_stopping": stops, "reduce_lr": rates}


# Initializers.


def glorot_limit(shape):
    return math.sqrt(3 / ((shape[0] + shape[1]) / 2))


def orthogonal(rng, shape):
    """keras.initializers.OrthogonalInitializer."""
    rows, cols = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q = q * np.sign(np.diag(r))
    return q.T if rows < cols else q


def initializers():
    rng = np.random.default_rng(13)
    kernels = []
    for layer, features in [(recurrent("lstm", 128), 8), (recurrent("lstm", 16), 40), (recurrent("gru", 64), 14), (recurrent("gru", 10), 1)]:
        u = layer["units"]
        gates = 4 if layer["kind"] == "lstm" else 3
        limit = glorot_limit((features, gates * u))
        drawn = rng.uniform(-limit, limit, 200_000)
        bias = np.zeros((1 if gates == 4 else 2, gates * u))
        if gates == 4:
            bias[:, u : 2 * u] = 1
        # Moments of the distribution, as far as a drawn sample bears them out.
        moments = [0, limit**2 / 3, 0, limit**4 / 5]
        for k, m in enumerate(moments):
            assert abs((drawn ** (k + 1)).mean() - m) < 6 * (drawn ** (k + 1)).std() / math.sqrt(drawn.size)
        kernels.append({"features": features, "layer": layer, "limit": limit, "moments": flat(moments), "bias": flat(bias)})
    # Of single places of the recurrent kernel of many layers, the quantiles.
    recurrents = []
    for layer in (recurrent("lstm", 2), recurrent("gru", 3)):
        u = layer["units"]
        shape = (u, (4 if layer["kind"] == "lstm" else 3) * u)
        sample = np.stack([orthogonal(rng, shape).ravel() for _ in range(20_000)])
        assert np.abs(np.einsum("nij,nkj->nik", sample.reshape(-1, *shape), sample.reshape(-1, *shape)) - np.eye(u)).max() < 1e-12
        for place in (0, shape[1] - 1, shape[1], u * shape[1] - 1):
            quantiles = np.quantile(sample[:, place], np.arange(1, 32) / 32)
            recurrents.append({"layer": layer, "place": place, "sample": len(sample), "quantiles": flat(quantiles)})
    return {"kernels": kernels, "recurrents": recurrents}


# Whole runs: batches in order, the last one smaller. With chains, of as many
# windows each, batch b has window b of every chain, and a window starts from the
# state that the one before it ended in, through which no gradient flows.


def batches(windows, batch, chain):
    """The windows of each batch, and whether they start from 0."""
    if chain:
        return [(list(range(b, windows, chain)), b == 0) for b in range(chain)]
    return [(list(range(lo, min(lo + batch, windows))), True) for lo in range(0, windows, batch)]


def evaluate(layers, weights, x, y, plan):
    total, states = 0.0, None
    with torch.no_grad():
        for some, fresh in plan:
            states = [None] * len(layers) if fresh else states
            total += float(mean_loss("mse", forward(layers, weights, x[some], states), y[some], None, 0)) * len(some)
    return total / len(x)


class Average:
    """Keras's use_ema with SwapEMAWeights at the end of each epoch."""

    def __init__(self, momentum, frequency):
        self.momentum, self.frequency, self.updates = momentum, frequency, 0

    def update(self, arrays):
        if self.updates == 0:
            self.values = [v.copy() for v in arrays]
        self.updates += 1
        for a, v in zip(self.values, arrays):
            a += (v - a) * (1 - self.momentum)
            if self.frequency and self.updates % self.frequency == 0:
                v[:] = a

    def swap(self, arrays):
        for a, v in zip(self.values, arrays):
            v[:], a[:] = a.copy(), v.copy()


def fit(seed, layers, config, rule, epochs=10, batch=3, windows=8, val_windows=4, features=2, steps=5, sample_weights=None, chains=None):
    chain, val_chain = chains or (0, 0)
    rng = np.random.default_rng(seed)
    weights = draw_weights(rng, features, layers)
    x, vx = (torch.tensor(even(rng, (n, steps, features), 1)) for n in (windows, val_windows))
    outputs = layers[-1]["units"]
    y, vy = (torch.tensor(even(rng, (n, 1, outputs), 1)) for n in (windows, val_windows))
    start = [[flat(v) for v in w] for w in weights]
    parameters = [v.requires_grad_() for w in weights for v in w]
    arrays = [v.detach().numpy() for v in parameters]
    optimizer = RULES[config["Optimizer"]](arrays, **rule)
    average = Average(config["EMAMomentum"], config.get("EMAOverwriteFrequency", 0)) if config.get("UseEMA") else None
    history = []
    for _ in range(epochs):
        total, states = 0.0, None
        for some, fresh in batches(windows, batch, chain):
            states = [None] * len(layers) if fresh else states
            weight = sample_weights and [sample_weights[i] for i in some]
            loss = mean_loss("mse", forward(layers, weights, x[some], states), y[some], weight, 0)
            for v in parameters:
                v.grad = None
            loss.backward()
            total += float(loss) * len(some)
            optimizer.update(arrays, [v.grad.numpy() if v.grad is not None else np.zeros(v.shape) for v in parameters], optimizer.lr)
            if average:
                average.update(arrays)
        if average:
            average.swap(arrays)
        val = evaluate(layers, weights, vx, vy, batches(val_windows, batch, val_chain))
        trained = [[flat(v.detach()) for v in w] for w in weights]
        if average:
            average.swap(arrays)
        history.append({"loss": float(f"{total / windows:.10g}"), "val_loss": float(f"{val:.10g}")})
    config = {**config, "Epochs": epochs, "BatchSize": batch, "Ordered": True, **({"Stateful": True} if chains else {})}
    return {
        "features": features, "steps": steps, "layers": layers, "config": config,
        "chain": chain, "val_chain": val_chain,
        "sample_weights": sample_weights, "x": flat(x), "target": flat(y), "val_x": flat(vx), "val_target": flat(vy),
        "weights": start, "history": history, "trained": trained,
    }


def runs():
    weights = [1.0, 0.5, 0.0, 3.0, 1.5, 1.0, 2.0, 0.25]
    adam = {"LearningRate": 0.02}
    mixed = [recurrent("gru", 4, True), recurrent("lstm", 3), dense(2)]
    return [
        fit(21, [recurrent("lstm", 5), dense(1)], {"Optimizer": "adam", **adam}, adam),
        fit(22, mixed, {"Optimizer": "adam", **adam}, adam, sample_weights=weights),
        fit(23, mixed, {"Optimizer": "adam", **adam}, adam, windows=9, val_windows=6, chains=(3, 2)),
        fit(24, mixed, {"Optimizer": "adam", **adam, "UseEMA": True, "EMAMomentum": 0.8}, adam),
        fit(25, mixed, {"Optimizer": "adam", **adam, "UseEMA": True, "EMAMomentum": 0.9, "EMAOverwriteFrequency": 4}, adam),
    ]


FILES = {
    "networks": networks, "losses": loss_values, "optimizers": optimizers, "schedules": schedules,
    "callbacks": callbacks, "initializers": initializers, "runs": runs,
}


def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-8, abs_tol=1e-12)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def main():
    check = sys.argv[1:] == ["--check"]
    for name, make in FILES.items():
        path, data = HERE / f"{name}.json", make()
        if not check:
            path.write_text(json.dumps(data, separators=(",", ":")).replace('},{"', '},\n{"') + "\n")
        elif not same(data, json.loads(path.read_text())):
            sys.exit(f"{path} is not what {__file__} gives")


if __name__ == "__main__":
    main()
