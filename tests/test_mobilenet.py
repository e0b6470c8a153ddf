"""The MobileNetV3 student: parameter counts, masks through strides and back, variants, PyTorch parity, streaming."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.cli import params
from jaxlip.cli.main import guarded
from jaxlip.data.batches import FaceBatch
from jaxlip.data.face import Rejections
from jaxlip.data.signs import SignData, sign_clips
from jaxlip.data.sources.glosses import Glosses
from jaxlip.errors import UserError
from jaxlip.models.mobilenet1d import MobileNet1d
from jaxlip.models.stream1d import AHEAD, BACK, Stream
from jaxlip.tasks.sign import Sign

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs/sign_ctc.py")
DATA = SignData(glosses=Glosses(train=2, val=1, test=1, longest=8))
SMALL = MobileNet1d(temporal_hidden=8, early=True)
QUARTER = MobileNet1d(temporal_hidden=8, upsample=False)
STREAM = MobileNet1d(temporal_hidden=8, squeeze=False, bidirectional=False)


@pytest.mark.parametrize("classes, parameters", [(101, 14_180_464), (973, 14_404_568)])
def test_parameters_are_those_of_the_original(classes, parameters, capsys):
    assert guarded(params.run, ["--config", CONFIG, "--num-classes", str(classes), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] == parameters


def test_sizes_that_a_model_does_not_have_are_named(capsys):
    assert guarded(params.run, ["--config", CONFIG, "--num-users", "3"]) == 2
    assert "it has --num-classes" in capsys.readouterr().err
    assert guarded(params.run, ["--config", CONFIG, "--num-classes", "x"]) == 2
    assert "not a number" in capsys.readouterr().err


@pytest.fixture(scope="module")
def landmarks():
    return next(sign_clips(DATA, Rejections()))[1].landmarks_TVC[:53]


def built(config):
    spec = Sign(model=config).shape_spec(DATA)
    model = config.build(spec)
    params, state = model.init(jax.random.key(0))
    params = {name: p + 0.05 * jax.random.normal(jax.random.key(len(name)), p.shape) for name, p in params.items()}
    return model, spec, params, state


def batch_of(*clips, frames):
    """Clips of [T, V, 3] side by side, padded with what must not be seen."""
    landmarks = np.full((len(clips), frames, *clips[0].shape[1:]), 9.0, np.float32)
    frames_BT = np.zeros(landmarks.shape[:2], bool)
    for n, clip in enumerate(clips):
        landmarks[n, : len(clip)], frames_BT[n, : len(clip)] = clip, True
    masks = {name: jnp.asarray(frames_BT) for name in ("frames_BT", "detected_BT", "speech_BT")}
    return FaceBatch(landmarks_BTVC=jnp.asarray(landmarks), target=None, examples_B=jnp.ones(len(clips), bool), **masks)


@pytest.mark.parametrize("config", [SMALL, QUARTER, STREAM], ids=["whole", "quarter", "stream"])
def test_padding_and_batch_mates_change_nothing_and_frames_differ(config, landmarks):
    """Defect 1: one vector for all frames. And every mask: strides, squeeze-excite, batch norm, the way back up."""
    model, _, params, state = built(config)
    length = 53
    clip, other = landmarks, landmarks[::-1][:31]
    apply = jax.jit(lambda batch: model.apply(params, state, batch, None)[0])
    alone, many = apply(batch_of(clip, frames=length)), apply(batch_of(other, clip, frames=64))
    steps = -(-length // config.stride)
    assert alone.tokens_BTK.shape[1] == steps
    for name in ("tokens_BTK", "early_BTK"):
        if getattr(alone, name) is not None:
            np.testing.assert_allclose(getattr(many, name)[1, :steps], getattr(alone, name)[0], atol=2e-5)
    real_BT = np.asarray(many.real(batch_of(other, clip, frames=64).frames_BT))
    np.testing.assert_array_equal(real_BT.sum(axis=1), [-(-31 // config.stride), steps])
    assert np.asarray(alone.tokens_BTK)[0].std(axis=0).max() > 1e-2


def test_statistics_and_gradients_are_of_real_frames_alone_and_everything_learns(landmarks):
    model, _, params, state = built(SMALL)
    key = jax.random.key(1)

    def total(params, batch, key):
        outputs, new = model.apply(params, state, batch, key)
        frames_BT = batch.frames_BT[..., None]
        weights = jnp.sin(
            jnp.arange(outputs.tokens_BTK.shape[-1])[None] + jnp.arange(outputs.tokens_BTK.shape[1])[:, None]
        )
        both = outputs.tokens_BTK + outputs.early_BTK
        return jnp.sum(jnp.where(frames_BT, both * weights[None], 0)), new

    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    short, padded = batch_of(landmarks, frames=56), batch_of(landmarks, frames=80)
    (_, new), grads = step(params, short, None)
    (_, _), wide = step(params, padded, None)
    for name in grads:
        np.testing.assert_allclose(wide[name], grads[name], atol=2e-3, rtol=2e-3, err_msg=name)
    (_, new), grads = step(params, short, key)
    assert {name for name, grad in grads.items() if not np.abs(grad).max() > 0} == set()
    assert all(np.isfinite(value).all() for value in new.values())
    (_, wider), _ = step(params, padded, key)
    for name, value in new.items():
        if name.startswith("stem_norm"):
            # Dropout in the encoders differs with the shape: moments agree as far as its noise lets them.
            np.testing.assert_allclose(wider[name], value, atol=0.2)


def test_the_student_reads_its_own_features_only():
    with pytest.raises(UserError, match="holistic6516"):
        SMALL.build(Sign(model=SMALL).shape_spec(SignData(features="two_hands")))


@pytest.mark.parametrize(
    "config, pieces", [(STREAM, 7), (STREAM, 200), (dataclasses.replace(STREAM, upsample=False), 7)]
)
def test_a_stream_gives_what_the_whole_clip_gives(config, pieces, landmarks):
    model, spec, params, state = built(config)
    clip = np.concatenate([landmarks, landmarks[::-1], landmarks])[:141]
    whole = np.asarray(jax.jit(model.apply)(params, state, batch_of(clip, frames=len(clip)), None)[0].tokens_BTK)[0]
    stream = Stream(config, spec, params, state, chunk=16)
    parts, late = [], []
    for start in range(0, len(clip), pieces):
        parts.append(stream.push(clip[start : start + pieces]))
        late.append(min(start + pieces, len(clip)) - config.stride * sum(map(len, parts)))
    parts.append(stream.finish())
    np.testing.assert_allclose(np.concatenate([part for part in parts if len(part)]), whole, atol=2e-5)
    assert BACK >= AHEAD and max(late) < AHEAD + 32 + pieces


def test_a_model_that_looks_at_whole_clips_does_not_stream():
    _, spec, params, state = built(QUARTER)
    with pytest.raises(UserError, match="no-bidirectional"):
        Stream(QUARTER, spec, params, state)


def test_convolutions_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch (extra peers) is the oracle")
    from flax import nnx

    from jaxlip.models.conv1d import Conv, DepthwiseConv
    from jaxlip.models.norm import BatchNorm

    rngs, x = nnx.Rngs(0), np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
    seen = torch.tensor(x).double().transpose(1, 2)
    for kernel, stride in ((3, 2), (5, 1), (1, 1)):
        plain, depth = (
            Conv(6, 4, kernel, stride=stride, bias=True, rngs=rngs),
            DepthwiseConv(6, kernel, stride=stride, rngs=rngs),
        )
        weight = torch.tensor(np.asarray(plain.weight[...])).double().permute(2, 1, 0)
        expected = torch.nn.functional.conv1d(seen, weight, stride=stride, padding=kernel // 2).transpose(1, 2)
        np.testing.assert_allclose(plain(jnp.asarray(x)), expected, atol=1e-5)
        weight = torch.tensor(np.asarray(depth.weight[...])).double().T[:, None]
        expected = torch.nn.functional.conv1d(seen, weight, stride=stride, padding=kernel // 2, groups=6).transpose(
            1, 2
        )
        np.testing.assert_allclose(depth(jnp.asarray(x)), expected, atol=1e-5)
    norm, peer = BatchNorm(6), torch.nn.BatchNorm1d(6).double()
    np.testing.assert_allclose(
        norm(jnp.asarray(x), jnp.ones((2, 11), bool), jax.random.key(0)),
        peer(seen).transpose(1, 2).detach(),
        atol=1e-4,
    )
    np.testing.assert_allclose(norm.var[...], peer.running_var, rtol=1e-5)
