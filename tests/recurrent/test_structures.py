import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.recurrent import EncoderDecoder, ManyToMany, ManyToOne, OneToMany, OneToOne

CORES = [nn.RNN, nn.GRU, nn.LSTM]


def core(kind=nn.GRU, inputs=3, hidden=5, **options):
    torch.manual_seed(0)
    return kind(inputs, hidden, batch_first=True, dtype=torch.float64, **options)


def trained(model, loss, steps, rate=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", CORES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_many_to_one_reads_each_sequence_to_its_own_end(kind, bidirectional):
    model = ManyToOne(core(kind, num_layers=2, bidirectional=bidirectional), 4, dtype=torch.float64)
    x, lengths = torch.randn(3, 6, 3, dtype=torch.float64), [6, 1, 4]
    padded = x.clone()
    for sequence, length in zip(padded, lengths, strict=True):
        sequence[length:] = float("nan")
    padded.requires_grad_()
    y = model(padded, lengths=lengths)
    for k, length in enumerate(lengths):
        output = model.core(x[k : k + 1, :length])[0][0]  # (time, features)
        last = torch.cat([output[-1, :5], output[0, 5:]])  # backwards, the first step is the last
        assert torch.allclose(y[k], model.readout(last), rtol=1e-12)
    y.sum().backward()
    assert padded.grad.isfinite().all()
    assert (padded.grad[1, 1:] == 0).all()


@pytest.mark.parametrize("kind", CORES)
def test_many_to_many_is_the_readout_of_every_step_and_zero_beyond(kind):
    model = ManyToMany(core(kind), 4, dtype=torch.float64)
    x, lengths = torch.randn(3, 6, 3, dtype=torch.float64), torch.tensor([2, 6, 5])
    y = model(x, lengths=lengths)
    whole = model(x)
    assert whole.equal(model.readout(model.core(x)[0]))
    for k, length in enumerate(lengths):
        assert torch.allclose(y[k, :length], whole[k, :length], rtol=1e-12)
        assert (y[k, length:] == 0).all()


@pytest.mark.parametrize("kind", CORES)
def test_one_to_many_sees_its_input_once(kind):
    model = OneToMany(core(kind), 4, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    y = model(x, steps=5)
    state, expected = None, []
    for t in range(5):
        output, state = model.core((x if t == 0 else torch.zeros_like(x)).unsqueeze(1), state)
        expected.append(model.readout(output[:, 0]))
    assert torch.allclose(y, torch.stack(expected, 1), rtol=1e-12)
    cut = model(x, lengths=[2, 5])
    assert torch.allclose(cut[0, :2], y[0, :2], rtol=1e-12)
    assert (cut[0, 2:] == 0).all()
    assert torch.allclose(cut[1], y[1], rtol=1e-12)


@pytest.mark.parametrize("kind", CORES)
def test_encoder_decoder_hands_over_the_state_at_each_source_s_end(kind):
    model = EncoderDecoder(core(kind), core(kind, inputs=4), 4, dtype=torch.float64)
    source, target = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    y = model(source, target, lengths=[3, 5], target_lengths=[6, 2])
    for k, (length, steps) in enumerate(((3, 6), (5, 2))):
        state = model.encoder(source[k : k + 1, :length])[1]
        expected = model.readout(model.decoder(target[k : k + 1, :steps], state)[0])
        assert torch.allclose(y[k, :steps], expected[0], rtol=1e-12)
        assert (y[k, steps:] == 0).all()


def test_generation_feeds_back_what_was_said():
    model = EncoderDecoder(core(), core(inputs=4), 4, dtype=torch.float64)
    source, start = torch.randn(2, 5, 3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[:2]
    said = model.generate(source, 6, start, lengths=[5, 2])
    fed = torch.cat([start.unsqueeze(1), F.one_hot(said.argmax(2), 4)[:, :-1]], 1)
    assert torch.allclose(said, model(source, fed, lengths=[5, 2]), rtol=1e-12)
    moved = model.generate(source, 3, start[0], feedback=lambda y: 2 * y)
    fed = torch.cat([start[:1].expand(2, -1).unsqueeze(1), 2 * moved[:, :-1]], 1)
    assert torch.allclose(moved, model(source, fed), rtol=1e-12)


def test_one_to_one_is_its_formula():
    torch.manual_seed(0)
    model = OneToOne(3, [4, 5], 2)
    x = torch.randn(6, 3)
    first, _, second, _, last = model.layers
    assert torch.allclose(model(x), last(torch.tanh(second(torch.tanh(first(x))))))


def test_one_to_one_learns_exclusive_or():
    torch.manual_seed(0)
    model, x = OneToOne(2, 8, 2), torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([0, 1, 1, 0])
    trained(model, lambda: F.cross_entropy(model(x), y), 150, rate=0.05)
    assert model(x).argmax(1).equal(y)


def test_one_to_many_learns_a_word_for_each_class():
    torch.manual_seed(0)
    words = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 2, 2]])
    model = OneToMany(nn.GRU(3, 16, batch_first=True), 4)
    trained(model, lambda: F.cross_entropy(model(torch.eye(3), 4).flatten(0, 1), words.flatten()), 120)
    assert model(torch.eye(3), 4).argmax(2).equal(words)


def bits(count, steps):
    return torch.randint(2, (count, steps), generator=torch.Generator().manual_seed(3))


def test_many_to_one_learns_which_symbol_came_first():
    torch.manual_seed(0)
    x = bits(64, 6)
    lengths = torch.arange(64) % 6 + 1
    model = ManyToOne(nn.LSTM(2, 16, batch_first=True), 2)
    inputs = F.one_hot(x, 2).float()
    trained(model, lambda: F.cross_entropy(model(inputs, lengths=lengths), x[:, 0]), 100)
    assert (model(inputs, lengths=lengths).argmax(1) == x[:, 0]).float().mean() > 0.95


def test_many_to_many_learns_the_running_parity_of_two():
    torch.manual_seed(0)
    x = bits(32, 8)
    y = x ^ F.pad(x, (1, 0))[:, :-1]
    model = ManyToMany(nn.RNN(2, 16, batch_first=True), 2)
    inputs = F.one_hot(x, 2).float()
    trained(model, lambda: F.cross_entropy(model(inputs).flatten(0, 1), y.flatten()), 150)
    assert (model(inputs).argmax(2) == y).float().mean() > 0.95


def test_encoder_decoder_learns_to_reverse():
    torch.manual_seed(0)
    source = F.one_hot(bits(64, 4), 3).float()
    words = bits(64, 4).flip(1)
    start = torch.eye(3)[2]
    target = torch.cat([start.expand(64, 1, 3), F.one_hot(words, 3).float()[:, :-1]], 1)
    model = EncoderDecoder(*(nn.GRU(3, 24, batch_first=True) for _ in range(2)), outputs=3)
    trained(model, lambda: F.cross_entropy(model(source, target).flatten(0, 1), words.flatten()), 150)
    assert (model.generate(source, 4, start).argmax(2) == words).float().mean() > 0.9


@pytest.mark.usefixtures("unchecked")  # torch's own recurrent layers break the graph, amid the checks
def test_survives_copy_state_dict_and_compilation():
    model = EncoderDecoder(core(), core(inputs=4), 4, dtype=torch.float64)
    source, target = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    expected = model(source, target)
    assert copy.deepcopy(model)(source, target).equal(expected)
    other = EncoderDecoder(nn.GRU(3, 5, batch_first=True), nn.GRU(4, 5, batch_first=True), 4).double()
    other.load_state_dict(model.state_dict())
    assert other(source, target).equal(expected)
    assert torch.allclose(torch.compile(model, backend="aot_eager")(source, target), expected)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: ManyToOne(nn.Linear(2, 3), 2), TypeError, "ManyToOne: core must be a recurrent module .* got Linear"),
        (lambda: ManyToMany(nn.GRU(2, 3), 2), ValueError, "build it with batch_first=True"),
        (lambda: ManyToOne(core(), 0), ValueError, "outputs must be at least 1, got 0"),
        (lambda: OneToMany(core(bidirectional=True), 2), ValueError, "OneToMany: the core must look forward only"),
        (lambda: OneToOne(3, 0, 2), ValueError, "OneToOne: sizes must be at least 1, got 3, 0, 2"),
        (lambda: EncoderDecoder(core(bidirectional=True), core(), 2), ValueError, "encoder must look forward only"),
        (lambda: EncoderDecoder(core(hidden=4), core(), 2), ValueError, r"\[\(1, 1, 5\)\], got \[\(1, 1, 4\)\]"),
        (lambda: EncoderDecoder(core(nn.LSTM), core(), 2), ValueError, "use the same kind of cell"),
        (lambda: EncoderDecoder(core(num_layers=2), core(), 2), ValueError, "num_layers"),
    ],
)
def test_refuses_cores_that_do_not_fit(build, error, words):
    with pytest.raises(error, match=words):
        build()


NAN = torch.full((2, 4, 3), float("nan"), dtype=torch.float64)
ZEROS = torch.zeros(2, 4, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "lengths", "error", "words"),
    [
        (ZEROS[0], None, ValueError, r"\(batch, time, 3\) .* got shape \(4, 3\)"),
        (ZEROS[..., :2], None, ValueError, r"\(batch, time, 3\) .*got shape \(2, 4, 2\)"),
        (ZEROS[:, :0], None, ValueError, "at least one step"),
        (ZEROS.long(), None, TypeError, "must be floating point, got torch.int64"),
        ([0.0], None, TypeError, "must be a torch.Tensor, got list"),
        (NAN, None, ValueError, "must be finite"),
        (ZEROS, [4, 0], ValueError, "in 1..4 .*got 0 for sequence 1"),
        (ZEROS, [5, 4], ValueError, "in 1..4 .*got 5 for sequence 0"),
        (ZEROS, [4], ValueError, "one a sequence, 2, got 1"),
        (ZEROS, [4.0, 2.0], TypeError, "lengths must be integers"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses_bad_sequences(x, lengths, error, words):
    for structure in (ManyToOne, ManyToMany):
        with pytest.raises(error, match=f"{structure.__name__}: .*{words}"):
            structure(core(), 2, dtype=torch.float64)(x, lengths=lengths)
    with pytest.raises(error, match=f"EncoderDecoder: .*{words}"):
        EncoderDecoder(core(), core(), 3, dtype=torch.float64)(x, ZEROS, lengths=lengths)


@pytest.mark.usefixtures("unchecked")
def test_refuses_bad_calls():
    single = OneToMany(core(), 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="give steps= or lengths="):
        single(ZEROS[:, 0])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        single(ZEROS[:, 0], 0)
    with pytest.raises(ValueError, match=r"one input an example, \(batch, 3\)"):
        single(ZEROS, 2)
    with pytest.raises(ValueError, match="must be finite"):
        single(NAN[:, 0], 2)
    with pytest.raises(ValueError, match=r"OneToOne: x must be \(batch, 3\), got shape \(2, 2\)"):
        OneToOne(3, 4, 2)(torch.zeros(2, 2))
    model = EncoderDecoder(core(), core(), 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="4 outputs cannot be fed back as one-hot to a decoder of 3 inputs"):
        model.generate(ZEROS, 2, ZEROS[0, 0])
    model = EncoderDecoder(core(), core(), 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"start must be \(3,\) or \(2, 3\), got shape \(3, 3\)"):
        model.generate(ZEROS, 2, torch.eye(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        model.generate(ZEROS, 0, ZEROS[0, 0])
    with pytest.raises(ValueError, match="start must be finite"):
        model.generate(ZEROS, 1, NAN[0, 0])
