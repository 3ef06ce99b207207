"""A checkpoint's arrays are read exactly, and a file that wants to do anything else is refused."""

import codecs
import collections
import os
import pickle
import pickletools
import subprocess
import tracemalloc

import numpy as np
import pytest
import torch

from modeling_maskformer.checkpoints import CheckpointError, UnsafeCheckpointError, read_checkpoint, unpickle

EXECUTED = []  # what a hostile pickle managed to call


def record(*args):
    EXECUTED.append(args)


def write(path, content, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model_final.pkl"


class Reduce:
    """Pickles as the call of a function."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_read_exactly_in_every_pickle_protocol(file, protocol):
    random = np.random.default_rng(0)
    arrays = {
        "conv.weight": random.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "transposed": random.normal(size=(3, 5)).astype(np.float32).T,
        "fortran": np.asfortranarray(random.normal(size=(2, 3, 4)).astype(np.float32)),
        "big_endian": random.normal(size=(7,)).astype(">f4"),
        "half": random.normal(size=(3,)).astype(np.float16),
        "double": random.normal(size=(3,)),
        "index": random.integers(-9, 9, size=(3, 3)),
        "mask": random.integers(0, 2, size=(4,)).astype(bool),
        "zero_dimensional": np.array(3, dtype=np.int64),
        "scalar": np.float32(0.1),
    }
    weights = read_checkpoint(write(file, {"model": arrays, "__author__": "someone"}, protocol))
    assert weights.keys() == arrays.keys()
    for name, tensor in weights.items():
        expected = arrays[name].astype(np.float32) if arrays[name].dtype.kind == "f" else arrays[name]
        assert tensor.shape == expected.shape, name
        np.testing.assert_array_equal(tensor.numpy(), expected, strict=True, err_msg=name)
        assert tensor.is_contiguous(), name


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_both_module_paths_of_numpy_are_known(file, module):
    content = pickle.dumps({"model": {"x": np.arange(4.0), "y": np.float32(2)}}, protocol=2)
    content = content.replace(b"numpy._core", module).replace(b"numpy.core", module)
    weights = read_checkpoint(write(file, content))
    assert weights["x"].tolist() == [0, 1, 2, 3]
    assert weights["y"].item() == 2


def test_a_file_of_python_2_is_read(file):
    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    values = np.array([1.5, -2.25], dtype="<f4")
    assert max(values.tobytes()) > 127  # bytes that are no ASCII text
    dtype = b"cnumpy\ndtype\n(" + text(b"f4") + b"K\x00K\x01tR(K\x03" + text(b"<") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    array += b"(K\x01(K\x02t" + dtype + b"I00\n" + text(values.tobytes()) + b"tb"
    content = b"\x80\x02}" + text(b"model") + b"}" + text(b"conv.weight") + array + b"ss."
    pickletools.dis(content, out=open(os.devnull, "w"))  # noqa: SIM115 - raises if the test's own pickle is broken
    assert read_checkpoint(write(file, content))["conv.weight"].tolist() == [1.5, -2.25]


def test_attributes_of_an_ordered_dict_are_dropped(file):
    state = torch.nn.Linear(2, 1).state_dict()  # an OrderedDict with `_metadata`
    arrays = collections.OrderedDict((name, value.numpy()) for name, value in state.items())
    arrays._metadata = state._metadata
    weights = read_checkpoint(write(file, {"model": arrays}))
    assert list(weights) == ["weight", "bias"]
    assert torch.equal(weights["weight"], state["weight"])


def test_read_weights_can_be_trained(file):
    weights = read_checkpoint(write(file, {"model": {"x": np.zeros(3, dtype=np.float32)}}))
    weights["x"].requires_grad_()
    weights["x"].data += 1
    assert weights["x"].tolist() == [1, 1, 1]


HOSTILE = {
    "os.system": (Reduce(os.system, "echo executed > executed"), "system"),
    "eval": (Reduce(eval, "record()"), "builtins.eval"),
    "exec": (Reduce(exec, "record()"), "builtins.exec"),
    "import": (Reduce(__import__, "os"), "builtins.__import__"),
    "getattr": (Reduce(getattr, {}, "clear"), "builtins.getattr"),
    "open": (Reduce(open, "executed", "w"), "open"),
    "Popen": (Reduce(subprocess.Popen, ["touch", "executed"]), "subprocess.Popen"),
    "the test's own function": (Reduce(record, 1), "record"),
    "numpy.load": (Reduce(np.load, "x.npy", None, True), "numpy.load"),
    "numpy.save": (Reduce(np.save, "executed", 1), "numpy.save"),
    "numpy.fromfile": (Reduce(np.fromfile, "/etc/hostname"), "fromfile"),
    "numpy.testing": (Reduce(np.testing.assert_raises, ValueError, record), "numpy.testing"),
    "numpy.vectorize": (Reduce(np.vectorize, record), "numpy.vectorize"),
    "numpy.memmap": (Reduce(np.memmap, "executed", "u1", "w+", 0, (1,)), "memmap"),
    "torch tensor": (torch.zeros(2), "torch._utils._rebuild_tensor_v2"),
    "complex": (Reduce(complex, 1, 2), "complex"),
    "defaultdict": (Reduce(collections.defaultdict, record), "collections.defaultdict"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["value", "key", "in a tuple", "beside the model", "state of an array"])
def test_a_call_is_refused_by_name_wherever_it_stands(file, tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(tmp_path)
    EXECUTED.clear()
    hostile, named = HOSTILE[name]
    array = np.zeros(2, dtype=np.float32)
    if place == "state of an array":
        function, args, state = array.__reduce__()
        nested = {"model": {"x": Reduce(function, *args, state=(*state[:-1], hostile))}}
    else:
        nested = {
            "value": {"model": {"x": hostile}},
            "key": {"model": {"x": array}, hostile: 1},
            "in a tuple": {"model": {"x": array}, "more": [({"deep": (hostile,)},)]},
            "beside the model": {"optimizer": hostile, "model": {"x": array}},
        }[place]
    content = pickle.dumps(nested)
    with pytest.raises(UnsafeCheckpointError, match="nothing in it was executed") as raised:
        read_checkpoint(write(file, content))
    assert named in str(raised.value)
    assert not EXECUTED
    assert not (tmp_path / "executed").exists()


def test_the_hostile_pickles_of_these_tests_would_do_harm_elsewhere():
    EXECUTED.clear()
    pickle.loads(pickle.dumps(HOSTILE["the test's own function"][0]))
    assert EXECUTED == [(1,)]


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
HAND_WRITTEN = {
    # an instruction each: by its opcode a pickle can also name a class, or look names up along dots
    "INST": (b"(S'echo'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'echo'\no.", "os.system"),
    "NEWOBJ": (b"\x80\x02ccollections\nUserDict\n)\x81.", "collections.UserDict"),
    "attribute of an allowed class": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
    "attribute of an allowed function": (
        b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__globals__\x93.",
        "collections.OrderedDict.__globals__",
    ),
    "python 2 builtins": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    "persistent id": (b"Pthe outside\n.", "the outside"),
    # the allowed names, misused
    "ndarray called": (b"cnumpy\nndarray\n((K\x02ttR.", "numpy.ndarray"),
    "array of another class": (ARRAY + b"(cnumpy\ndtype\n(K\x00tS'b'\ntR.", "subclass"),
    "objects as numbers": (b"cnumpy\ndtype\n(S'O'\ntR.", "'O'"),
    "raw memory as numbers": (b"cnumpy\ndtype\n(S'V8'\ntR.", "'V8'"),
    "text as numbers": (b"cnumpy\ndtype\n(S'U4'\ntR.", "'U4'"),
    "structured numbers": (
        b"cnumpy\ndtype\n(S'f4'\ntR(K\x03S'<'\nN(S'a'\nt}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
        "structured",
    ),
    "another codec": (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "rot13"),
    "state for a function": (b"cnumpy\ndtype\n}S'__code__'\nNsb.", "changes a function"),
    "attributes for a function": (b"cnumpy\ndtype\n(N}S'_build'\nNstb.", "changes a function"),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_a_hand_written_pickle_is_refused_with_the_reason(file, name):
    content, reason = HAND_WRITTEN[name]
    with pytest.raises(UnsafeCheckpointError) as raised:
        read_checkpoint(write(file, content))
    assert reason in str(raised.value)


def array_with(shape=(2,), data=b"\0" * 8):
    function, args, state = np.zeros(2, dtype=np.float32).__reduce__()
    return Reduce(function, *args, state=(state[0], shape, state[2], False, data))


@pytest.mark.parametrize(
    "parts",
    [
        {"shape": (3,)},
        {"shape": (10**15,)},
        {"shape": (-2,)},
        {"shape": [2]},
        {"shape": (2.0,)},
        {"shape": (True, 2)},
        {"data": [1, 2]},
        {"data": b"\0" * 7},
    ],
    ids=repr,
)
def test_an_array_whose_parts_contradict_each_other_is_refused(file, parts):
    with pytest.raises(UnsafeCheckpointError, match="it holds an array"):
        read_checkpoint(write(file, {"model": {"x": array_with(**parts)}}))


def test_one_file_cannot_change_how_the_next_is_read(file):
    for content, _ in HAND_WRITTEN.values():
        with pytest.raises(UnsafeCheckpointError):
            read_checkpoint(write(file, content))
    assert read_checkpoint(write(file, {"model": {"x": np.ones(2)}}))["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable pickle"),
        (b"\xff\xd8\xff\xe0 a photo", "not a readable pickle"),
        (pickle.dumps({"model": {"x": np.zeros(99)}})[:-50], "not a readable pickle"),
        (pickle.dumps({"blobs": {}, "cfg": 1}), "the entries ['blobs', 'cfg']"),
        (pickle.dumps({"model": {}}), 'a dict whose entry "model"'),
        (pickle.dumps([1, 2]), "a list"),
        (pickle.dumps({"model": {"x": [1.0]}}), "weight 'x' is a list"),
        (pickle.dumps({"model": {3: np.zeros(1)}}), "weight 3"),
    ],
)
def test_what_is_no_checkpoint_is_said(file, content, reason):
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(write(file, content))
    assert reason in str(raised.value)
    assert not isinstance(raised.value, UnsafeCheckpointError)
    assert str(file) in str(raised.value)


def test_an_array_without_values_is_no_weight(file):
    content = b"}S'model'\n}S'x'\n" + ARRAY + b"(cnumpy\nndarray\n(K\x00tS'b'\ntRss."
    with pytest.raises(CheckpointError, match="weight 'x'"):
        read_checkpoint(write(file, content))


def test_a_missing_file_and_a_file_of_torch_are_told_apart(file):
    with pytest.raises(FileNotFoundError, match="model_final"):
        read_checkpoint(file)
    torch.save({"model": {"x": torch.zeros(1)}}, file)
    with pytest.raises(CheckpointError, match=r"torch\.save"):
        read_checkpoint(file)


# A small file that asks for much


def nested_tuples(depth, last=b"."):
    return b"\x80\x04)" + b"\x85" * depth + last


def doubled_tuples(times):
    """(t, t) of (t, t) of ...: a few bytes each time, twice as much to look at."""
    return b"\x80\x04)\x94" + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86\x94" for k in range(times))


def one_array_many_times(times):
    array = np.zeros(250_000, dtype=np.float32)
    return pickle.dumps({"model": {f"weight_{number}": array for number in range(times)}})


def one_text_made_bytes_many_times(times):
    text = "x" * 1_000_000
    return pickle.dumps([Reduce(codecs.encode, text, "latin1") for _ in range(times)])


GREEDY = {
    "tuples as a key of a dict": (b"\x80\x04}" + nested_tuples(300_000, b"Ns.")[2:], "more than 100 deep"),
    "lists": (b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b".", "more than 100 deep"),
    "a far place of the table": (b"\x80\x04Nr\xff\xff\xff\x7f0.", "at place 2147483647"),
    "a far place, in text": (b"Np900000000\n.", "at place 900000000"),
    "tuples doubled 60 times": (doubled_tuples(60) + b"}h\x3cNs.", "over and over"),
    "one array named 900 times": (one_array_many_times(900), "over and over"),
    "one text encoded 900 times": (one_text_made_bytes_many_times(900), "over and over"),
    "a dict copied over and over": (
        b"\x80\x04}\x94(" + b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(3000)) + b"u0"
        b"ccollections\nOrderedDict\n\x94(" + b"h\x01h\x00\x85R" * 2000 + b"t.",
        "over and over",
    ),
    "instructions": (b"\x80\x04" + b"N0" * 600_000 + b"N.", "more than 1000000 instructions"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_file_that_builds_far_more_than_it_holds_is_refused_before_anything_is_built(file, monkeypatch, name):
    monkeypatch.setattr(unpickle._Unpickler, "load", lambda self: pytest.fail("the pickle was loaded"))
    content, reason = GREEDY[name]
    with pytest.raises(UnsafeCheckpointError, match=reason):
        read_checkpoint(write(file, content))


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x96", b"\x95"], ids=["bytes", "text", "bytearray", "frame"])
def test_a_length_beyond_the_end_of_the_file_costs_no_memory(file, opcode):
    content = b"\x80\x05" + opcode + (4_600_000_000).to_bytes(8, "little") + b"x."
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="not a readable pickle"):
        read_checkpoint(write(file, content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_an_array_that_two_names_share_is_read(file):
    weights = read_checkpoint(write(file, one_array_many_times(2)))
    assert torch.equal(weights["weight_0"], weights["weight_1"]) and len(weights["weight_0"]) == 250_000


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_checkpoint_of_many_arrays_is_within_the_limits(file, protocol):
    arrays = collections.OrderedDict((f"layer.{number}.weight", np.full((3, 5), number)) for number in range(1500))
    weights = read_checkpoint(write(file, {"model": arrays}, protocol))
    assert len(weights) == 1500 and weights["layer.1499.weight"].unique().tolist() == [1499]
