import json
import os
import pickle
import random

import pytest
import torch

from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.weights_file import load, load_weights, save, save_weights
from raydistill.storage.atomic import write_atomically, write_json

MODEL = {"weight": torch.arange(4.0), "bias": torch.ones(2)}


class Hostile:
    """A pickle that would run a command."""

    def __init__(self, witness) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


# -------------------------------------------------------------------------------------------------------------- writing
def test_that_a_file_is_written_with_the_folders_it_needs(tmp_path):
    path = tmp_path / "new" / "run" / "file"
    write_atomically(path, lambda file: file.write(b"content"))
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_that_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def failing(file):
        file.write(b"half of the n")
        raise error

    with pytest.raises(error):
        write_atomically(path, failing)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_that_a_full_disk_is_a_users_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def failing(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"file: cannot be written .*No space left.*make room"):
        write_atomically(path, failing)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_that_a_place_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"occupied/file: cannot be written .*choose another output"):
        write_atomically(tmp_path / "occupied" / "file", lambda file: None)


def test_that_json_is_written_readably(tmp_path):
    write_json(tmp_path / "result.json", {"AP": 0.5})
    assert json.loads((tmp_path / "result.json").read_text()) == {"AP": 0.5}
    assert "\n" in (tmp_path / "result.json").read_text()


# -------------------------------------------------------------------------------------------------------------- reading
def test_that_what_was_saved_is_read_back(tmp_path):
    save(tmp_path / "state.pt", {"model": MODEL, "epoch": 3, "rng": [1, 2]})
    state = load(tmp_path / "state.pt")
    assert torch.equal(state["model"]["weight"], MODEL["weight"])
    assert (state["epoch"], state["rng"]) == (3, [1, 2])


def test_that_a_file_that_is_missing_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "missing.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_that_a_hostile_pickle_is_refused_and_not_run(tmp_path):
    path, witness = tmp_path / "hostile.pt", tmp_path / "executed"
    torch.save({"model": Hostile(witness)}, path)
    with pytest.raises(UserError, match=r"hostile\.pt: must be a checkpoint of tensors") as caught:
        load(path)
    assert not witness.exists()
    assert "weights_only" not in str(caught.value)  # no advice to run it after all
    path.write_bytes(pickle.dumps(Hostile(witness)))
    with pytest.raises(UserError):
        load(path)
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("content", [b"", b"hello world\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", pickle.dumps([1])])
def test_that_something_else_than_a_checkpoint_is_a_users_error(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pt: must "):
        load(tmp_path / "other.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_that_a_damaged_checkpoint_is_read_or_a_users_error(tmp_path, zipped):
    path = tmp_path / "damaged.pt"
    torch.save(MODEL, path, _use_new_zipfile_serialization=zipped)
    good = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        data = bytearray(good[: draw.randrange(len(good))] if draw.random() < 0.3 else good)
        for _ in range(3):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            load(path)
        except UserError:
            refused += 1
    assert refused > 50


def test_that_a_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="must be a checkpoint"):
        load(tmp_path)


def test_that_a_checkpoint_must_be_a_dictionary(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(UserError, match="must hold a dictionary, got list"):
        load(tmp_path / "list.pt")


# -------------------------------------------------------------------------------------------------------------- weights
def saved(path, value=1.0):
    save_weights(path, {"weight": torch.tensor([value])}, ("cat", "dog"), {"backbone": "resnet18"}, {"min_size": 96})
    return path


def test_that_weights_are_read_with_what_it_takes_to_build_the_net(tmp_path):
    weights = load_weights(saved(tmp_path / "best.pt"))
    assert weights.model == {"weight": torch.tensor([1.0])}
    assert weights.classes == ("cat", "dog")
    assert weights.detector == {"backbone": "resnet18"}
    assert weights.image == {"min_size": 96}


def test_that_a_run_directory_means_its_best_weights_and_else_its_last(tmp_path):
    run = RunDirectory(tmp_path)
    saved(run.last, 1.0)
    assert load_weights(tmp_path).model["weight"].item() == 1
    saved(run.best, 2.0)
    assert load_weights(tmp_path).model["weight"].item() == 2


def test_that_a_bare_state_dict_does_not_name_its_classes(tmp_path):
    torch.save(MODEL, tmp_path / "bare.pt")
    weights = load_weights(tmp_path / "bare.pt")
    assert set(weights.model) == set(MODEL)
    assert (weights.classes, weights.detector, weights.image) == (None, None, None)


def test_that_the_output_of_several_runs_is_an_error_that_names_them(tmp_path):
    saved(tmp_path / "teacher" / "best.pt")
    saved(tmp_path / "distilled" / "best.pt")
    with pytest.raises(UserError, match="got the output of several; name one of distilled, teacher"):
        load_weights(tmp_path)


def test_that_a_run_directory_without_weights_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"must hold best\.pt or last\.pt, got neither"):
        load_weights(tmp_path)


def test_that_weights_that_do_not_exist_are_a_users_error(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("state", [{}, {"epoch": 3}, {"model": {}}, {"model": {"weight": 1.0}}, {"model": 5}])
def test_that_a_dictionary_without_a_state_dict_is_a_users_error(tmp_path, state):
    save(tmp_path / "state.pt", state)
    with pytest.raises(UserError, match="must hold a state dict"):
        load_weights(tmp_path / "state.pt")


def test_that_a_run_is_finished_once_its_result_exists(tmp_path):
    run = RunDirectory(tmp_path)
    assert not run.finished
    write_json(run.result, {"stage": "teacher", "epochs": 1, "parameters": 5, "AP": 0.5})
    assert run.finished
