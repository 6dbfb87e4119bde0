"""Trains LSTM(128) and Dense(1) on 4,000 sequences of 50×8 in PyTorch, as Keras would.

    /usr/bin/python3 peer.py FILE SEED THREADS BLAS_THREADS

FILE is little-endian float32: the sequences, [4000][50][8], then the 4,000
targets. THREADS are PyTorch's own, BLAS_THREADS those of OpenBLAS. After the line that says what it is,

    {"version": "1.13.1+dfsg-4", "blas": "/usr/lib/…/openblas-pthread/libblas.so.3"}

it trains one epoch for every line it reads, and prints

    {"seconds": …, "loss": mean over the epoch, "peak_mib": most memory resident so far}

so that another program can take turns with it. Needs Debian's python3-torch and
python3-numpy, and a BLAS: without libopenblas0, which Debian recommends with
torch, the reference BLAS takes about eight times as long.

Initializers, Adam and its defaults are Keras's; PyTorch's second bias, which
Keras does not have, stays 0. Batches are taken from tensors in memory, faster
than a DataLoader.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time

FILE, SEED, THREADS, BLAS_THREADS = sys.argv[1], *map(int, sys.argv[2:5])
os.environ["OPENBLAS_NUM_THREADS"] = str(BLAS_THREADS)

import numpy as np  # noqa: E402  OpenBLAS reads the number when it is loaded
import torch  # noqa: E402

WINDOWS, STEPS, FEATURES, UNITS, BATCH = 4000, 50, 8, 128, 32


def version():
    """That of Debian's package, or torch's own where there is none."""
    try:
        query = ["dpkg-query", "--show", "--showformat=${Version}", "python3-torch"]
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return torch.__version__


def blas():
    """The file that torch's products, which link to libblas.so.3, are in."""
    with open("/proc/self/maps") as maps:
        return next((line.split()[-1] for line in maps if "/libblas.so" in line), "no BLAS")


def model():
    lstm, dense = torch.nn.LSTM(FEATURES, UNITS, batch_first=True), torch.nn.Linear(UNITS, 1)
    with torch.no_grad():
        limit = math.sqrt(6 / (FEATURES + 4 * UNITS))
        lstm.weight_ih_l0.uniform_(-limit, limit)
        torch.nn.init.orthogonal_(lstm.weight_hh_l0)
        lstm.bias_ih_l0.zero_()
        lstm.bias_ih_l0[UNITS : 2 * UNITS] = 1  # forget gates
        lstm.bias_hh_l0.zero_().requires_grad_(False)
        limit = math.sqrt(6 / (UNITS + 1))
        dense.weight.uniform_(-limit, limit)
        dense.bias.zero_()
    return lstm, dense


def epoch(lstm, dense, optimizer, x, y):
    order, total = torch.randperm(WINDOWS), 0.0
    for some in order.split(BATCH):
        optimizer.zero_grad(set_to_none=True)
        hidden, _ = lstm(x[some])
        loss = torch.nn.functional.mse_loss(dense(hidden[:, -1]), y[some])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(some)
    return total / WINDOWS


def main():
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    data = torch.from_numpy(np.fromfile(FILE, dtype="<f4"))
    x = data[: WINDOWS * STEPS * FEATURES].reshape(WINDOWS, STEPS, FEATURES)
    y = data[WINDOWS * STEPS * FEATURES :].reshape(WINDOWS, 1)
    lstm, dense = model()
    parameters = [p for m in (lstm, dense) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)
    print(json.dumps({"version": version(), "blas": blas()}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = epoch(lstm, dense, optimizer, x, y)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "loss": loss, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
