"""The real NeuPy reads what torchneupy saves, and computes the same; for machines on which it is installed.

The environment variable ``NEUPY_PYTHON`` names a Python in which ``import neupy`` works. If NeuPy needs help to work
beside the versions there, ``NEUPY_SETUP`` names a module that gives it, which is imported first.
"""

import json
import os
import subprocess

import numpy as np
import pytest

from tests.storage.recorded import NETWORKS, SAVERS, arrays, build, fill, outputs
from torchneupy import storage

PYTHON = os.environ.get("NEUPY_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="NEUPY_PYTHON names no Python with the real NeuPy")

ENDINGS = [".hdf5", ".json", ".pickle", ".py2.pickle"]
SCRIPT = """
import json, os, sys
if os.environ.get("NEUPY_SETUP"):
    __import__(os.environ["NEUPY_SETUP"])
import numpy as np
from neupy import init, storage
from neupy.utils import tf_utils
import tensorflow as tf

folder = sys.argv[1]
for name, source, input_files, endings in json.loads(sys.argv[2]):
    names = {"np": np, "init": init}
    exec("from neupy.layers import *", names)
    inputs = [np.load(file) for file in input_files]
    for ending in endings:
        # Zeros everywhere: what the network computes comes from the file.
        network = eval(source, names)
        network.create_variables()
        tf_utils.initialize_uninitialized_variables()
        for variable in network.variables.values():
            variable.load(np.zeros(variable.shape.as_list(), np.float32), tf_utils.tensorflow_session())
        load = getattr(storage, "load_" + ending.rsplit(".", 1)[1])
        load(network, os.path.join(folder, name + ending), load_by="order")
        found = network.output(*[tf.constant(value) for value in inputs])
        found = found if isinstance(found, list) else [found]
        for number, value in enumerate(tf_utils.tensorflow_session().run(found)):
            np.save(os.path.join(folder, f"{name}{ending}.{number}.npy"), value)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of all networks, and what NeuPy computed with each."""
    where = tmp_path_factory.mktemp("neupy")
    tasks = []
    for name, entry in NETWORKS.items():
        network = build(entry["build"])
        fill(network)
        for ending in ENDINGS[:3]:
            SAVERS[ending](network, where / f"{name}{ending}")
        storage.save_pickle(network, where / f"{name}.py2.pickle", python_compatible=True)
        files = []
        for number, value in enumerate(arrays(entry["data"], "input")):
            files.append(os.fspath(where / f"{name}.input.{number}.npy"))
            np.save(files[-1], value)
        tasks.append((name, entry["build"], files, ENDINGS))
    command = [PYTHON, "-c", SCRIPT, os.fspath(where), json.dumps(tasks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_neupy_computes_the_same(name, ending, folder):
    network = build(NETWORKS[name]["build"])
    fill(network)
    expected = outputs(network, arrays(NETWORKS[name]["data"], "input"))
    for number, value in enumerate(expected):
        found = np.load(folder / f"{name}{ending}.{number}.npy")
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-5)
