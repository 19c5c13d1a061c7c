"""A net that has learnt the sine, as an ONNX file, with the samples that a board is held against.

    python examples/sine_onnx.py
    microrpc tvm build sine.onnx --board qemu_mps2_an385 --out sine_board

writes sine.onnx and sine.npz into the current directory; docs/tvm.md goes on from there. Needs numpy and onnx alone.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NEURONS = 16


def main() -> None:
    """Learn, and write both files."""
    x = np.linspace(0, 2 * np.pi, 200, dtype="float32")[:, None]
    slopes = np.ones((1, NEURONS), "float32")
    bends = -np.linspace(0, 2 * np.pi, NEURONS, endpoint=False, dtype="float32")
    hidden = np.maximum(x @ slopes + bends, 0)
    weights, *_ = np.linalg.lstsq(np.hstack([hidden, np.ones_like(x)]), np.sin(x), rcond=None)
    constants = {"slopes": slopes, "bends": bends, "weights": weights[:-1], "bias": weights[-1]}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "slopes", "bends"], ["bent"], name="hidden"),
            helper.make_node("Relu", ["bent"], ["active"]),
            helper.make_node("Gemm", ["active", "weights", "bias"], ["y"], name="output"),
        ],
        "sine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "sine.onnx")
    y = hidden @ weights[:-1] + weights[-1]
    np.savez("sine.npz", x=x, y=y)
    print(f"sine.onnx and sine.npz: {len(x)} samples, off the sine by {abs(y - np.sin(x)).max():.4f} at most")


if __name__ == "__main__":
    main()
