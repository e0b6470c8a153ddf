"""The V2, V3 and V4 word lip readers in PyTorch: the peers that benchmarks and parity tests hold jaxlip against.

`DensePeer` is a strong eager PyTorch, `PygPeer` the stock PyTorch Geometric. They have the same layers and the same
state dict, so that weights copied from one to the other give the same logits. Neither knows about padding before the
pooling over time: BatchNorm and the LSTM see padded frames as they see real ones.

Measured with torch 2.13 and PyG 2.8: V4, B=32, T=29, V=88, one thread of a shared two-core CPU, whole training steps
interleaved, medians of 3 to 5, spread 5 to 10 % (PygPeer more). glibc gives each large tensor back to the system and
faults its pages in again, which costs more than any choice of formulation. "Kept" below is with memory kept by
MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 in the environment: a fair benchmark sets both.

    seconds a step                          kept    glibc's defaults
    DensePeer: A @ X broadcast, (A X) W     1.06    1.79
      A (X W) in the second layer           1.06    1.87
      node-major [V, F, D], one GEMM        1.10    1.86
      einsum "vw,fwd->fvd"                  1.13    1.99
    PygPeer                                 1.67    7.3
      norm computed once for a shape        1.65    6.4

native_dropout, amax and torch.compile gave no gain beyond the noise (torch.compile lost 50 % with memory kept). Dropout
is 31 to 42 % of a step. PyG's norm stays as it ships: computed at each call.
"""

import abc
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import GCNConv, global_max_pool, global_mean_pool

FEATURES = 31
PARAMETERS = {(192, 2): 1_913_956, (128, 2): 858_212, (256, 3): 3_453_796}
"""Trainable parameters of V4, V3 and V2 at 100 classes, by (hidden, layers)."""


class DenseConv(nn.Module):
    """(A X) W + b over nodes, with the parameter names and the initialisation of GCNConv.

    A comes first as fan-in <= fan-out in every layer: cheaper in the first, and the bias is part of the GEMM.
    """

    def __init__(self, fan_in: int, fan_out: int, propagation_VV: torch.Tensor):
        super().__init__()
        self.lin = nn.Linear(fan_in, fan_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.register_buffer("propagation_VV", propagation_VV, persistent=False)
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x_FVD: torch.Tensor) -> torch.Tensor:
        return F.linear(self.propagation_VV @ x_FVD, self.lin.weight, self.bias)


class Peer(nn.Module):
    """What both peers share: everything but the product with the graph and the pooling over nodes."""

    def __init__(self, convs: list[nn.Module], hidden: int, dropout: float, classes: int):
        super().__init__()
        layers = len(convs)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in convs)
        self.rates = [min(0.7, dropout * (1 + 0.2 * i / max(1, layers - 1))) for i in range(layers)]
        self.lstm = nn.LSTM(2 * hidden, hidden, 2, batch_first=True, dropout=dropout, bidirectional=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.classifier = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        count = count_parameters(self)
        expected = PARAMETERS.get((hidden, layers), count) if classes == 100 else count
        assert count == expected, (
            f"{type(self).__name__}({hidden=}, {layers=}) has {count:,} parameters, not {expected:,}."
        )

    @abc.abstractmethod
    def encode(self, x_BTVD: torch.Tensor) -> torch.Tensor:
        """Graph layers, then mean and max over nodes: [B, T, V, D] -> [B, T, 2 hidden]."""

    def activate(self, x_ND: torch.Tensor, i: int) -> torch.Tensor:
        """BatchNorm over the rows (frames x nodes), ReLU and dropout of graph layer i: [N, hidden] -> [N, hidden]."""
        return F.dropout(F.relu(self.norms[i](x_ND), inplace=True), self.rates[i], self.training)

    def forward(self, x_BTVD: torch.Tensor, frames_BT: torch.Tensor) -> torch.Tensor:
        """Features f32 [B, T, V, 31] and real frames bool [B, T] -> logits f32 [B, K]."""
        sequence_BTD = self.norm(self.lstm(self.encode(x_BTVD))[0])
        weight_BT1 = frames_BT.unsqueeze(-1).to(sequence_BTD.dtype)
        clip_BD = (sequence_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        return self.classifier(clip_BD)


class DensePeer(Peer):
    """Graph convolution as a product with the dense f32 propagation_VV [V, V]."""

    def __init__(self, propagation_VV, hidden: int, layers: int, dropout: float, classes: int):
        propagation_VV = torch.as_tensor(propagation_VV, dtype=torch.float32)
        fans = [FEATURES, *[hidden] * (layers - 1)]
        super().__init__([DenseConv(fan, hidden, propagation_VV) for fan in fans], hidden, dropout, classes)

    def encode(self, x_BTVD: torch.Tensor) -> torch.Tensor:
        x_FVD = x_BTVD.flatten(0, 1)
        for i, conv in enumerate(self.convs):
            x_FVD = self.activate(conv(x_FVD).flatten(0, 1), i).view(*x_FVD.shape[:2], -1)
        pooled_FD = torch.cat([x_FVD.mean(1), x_FVD.max(1).values], -1)
        return pooled_FD.view(*x_BTVD.shape[:2], -1)


class PygPeer(Peer):
    """GCNConv on one big graph of B x T faces, from edge_index int64 [2, E]: both directions, no self-loops."""

    def __init__(self, edge_index, hidden: int, layers: int, dropout: float, classes: int):
        fans = [FEATURES, *[hidden] * (layers - 1)]
        super().__init__([GCNConv(fan, hidden) for fan in fans], hidden, dropout, classes)
        self.register_buffer("edge_index", torch.as_tensor(edge_index, dtype=torch.int64), persistent=False)
        self.graphs: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}

    def graph(self, frames: int, nodes: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The big graph, built once for a shape: edge_index [2, frames * E] and the frame of each node [frames * V]."""
        key = (frames, nodes, device)
        if key not in self.graphs:
            offset_F = torch.arange(frames, device=device) * nodes
            edges_2FE = self.edge_index.to(device)[:, None, :] + offset_F[None, :, None]
            frame_N = torch.arange(frames, device=device).repeat_interleave(nodes)
            self.graphs[key] = edges_2FE.flatten(1).contiguous(), frame_N
        return self.graphs[key]

    def encode(self, x_BTVD: torch.Tensor) -> torch.Tensor:
        B, T, V, _ = x_BTVD.shape
        edge_index, frame_N = self.graph(B * T, V, x_BTVD.device)
        x_ND = x_BTVD.flatten(0, 2)
        for i, conv in enumerate(self.convs):
            x_ND = self.activate(conv(x_ND, edge_index), i)
        pooled_FD = torch.cat([global_mean_pool(x_ND, frame_N, B * T), global_max_pool(x_ND, frame_N, B * T)], -1)
        return pooled_FD.view(B, T, -1)


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def make_optimizer(model: nn.Module, lr: float = 7.5e-4, weight_decay: float = 5e-4) -> torch.optim.AdamW:
    # Fused takes 2 ms a step on CPU, foreach 7 ms.
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def loss_of(
    model: nn.Module,
    x_BTVD: torch.Tensor,
    frames_BT: torch.Tensor,
    labels_B: torch.Tensor,
    label_smoothing: float = 0.15,
) -> torch.Tensor:
    return F.cross_entropy(model(x_BTVD, frames_BT), labels_B, label_smoothing=label_smoothing)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """The rest of a step of training, with the gradient's norm clipped at 1. Nothing waits for the device."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def with_weights_of(words: Any, *, pyg: bool) -> Peer:
    """A peer with the weights, running moments and rates of a jaxlip model (`jaxlip.report.synthetic.WordSteps`)."""
    config, spec = words.program.task.model, words.program.spec
    sizes = {
        "hidden": config.hidden,
        "layers": config.graph_layers,
        "dropout": config.dropout,
        "classes": len(spec.classes),
    }
    if pyg:
        graph = spec.topology.to_jraph()
        peer = PygPeer(np.array([graph.senders, graph.receivers]), **sizes)
    else:
        peer = DensePeer(np.array(spec.topology.propagation_VV), **sizes)
    missing, unknown = peer.load_state_dict(state_of(words.state.params, words.state.model_state), strict=False)
    left = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not left and not unknown, f"weights that were not copied: {left} {unknown}"
    return peer


def state_of(params: dict[str, Any], state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """jaxlip's parameters and running moments by the names of a peer's state dict."""
    named = {name: torch.tensor(np.array(value)) for name, value in {**params, **state}.items()}

    def norm(here: str, there: str, names: tuple[str, ...] = ("scale", "bias", "mean", "var")) -> dict:
        torch_names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        return {f"{there}.{torch_names[name]}": named[f"{here}.{name}"] for name in names}

    def linear(here: str, there: str) -> dict:
        return {f"{there}.weight": named[f"{here}.kernel"].T, f"{there}.bias": named[f"{here}.bias"]}

    copied = norm("norm", "norm", ("scale", "bias")) | norm("classifier.norm", "classifier.1")
    copied |= linear("classifier.hidden", "classifier.0") | linear("classifier.out", "classifier.4")
    convs = ["graph.first", *sorted({name.rsplit(".", 1)[0] for name in named if name.startswith("graph.convs.")})]
    for i, conv in enumerate(convs):
        copied |= {f"convs.{i}.lin.weight": named[f"{conv}.weight"].T, f"convs.{i}.bias": named[f"{conv}.bias"]}
        copied |= norm(f"graph.norms.{i}", f"norms.{i}")
    for name in (name for name in named if name.startswith("lstm.layers.")):
        _, _, layer, which = name.split(".")
        source, what = which.split("_")
        for direction, suffix in enumerate(("", "_reverse")):
            key = f"lstm.{what}_{'ih' if source == 'input' else 'hh'}_l{layer}{suffix}"
            copied[key] = named[name][direction].T if what == "weight" else named[name][direction]
    return copied
