"""The demonstration functions of the library in C (firmware/demo/demo.c), to the byte."""

import time
from array import array

import microrpc_device
from microrpc_device import Failure

_COUNTABLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
_CODES = {int: 0, float: 2, type(None): 4, str: 11, bytes: 12, microrpc_device.Tensor: 7}


def _wrap(number):
    """Give what is left of a number in 64 bits."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _pair(name, operands):
    if len(operands) != 2 or not all(isinstance(operand, (int, float)) for operand in operands):
        raise Failure(f"{name}: want (int, int)")
    return operands


def _sum(a, b):
    return _wrap(a + b) if isinstance(a, int) and isinstance(b, int) else float(a) + float(b)


def _addend(operands):
    if not operands or not isinstance(operands[0], (int, float)):
        raise Failure("argument 0: Float expected")
    return operands[0]


def _round(number):
    """Give the float32 next to a number."""
    return array("f", (number,))[0]


def install(device):
    """Put the functions into the system library of a device; `add` is in the global registry, too."""
    function = device.function

    def add(*operands):
        a, b = _pair("add", operands)
        return _sum(a, b)

    for is_global in (False, True):
        doc = "Give the sum of two numbers; an int that overflows 64 bits wraps around."
        function("a: any, b: any -> any", doc=doc, is_global=is_global)(add)

    @function(
        "a: any, b: any -> any", doc="Give the product of two numbers; an int that overflows 64 bits wraps around."
    )
    def mul(*operands):
        a, b = _pair("mul", operands)
        return _wrap(a * b) if isinstance(a, int) and isinstance(b, int) else float(a) * float(b)

    @function("a: float, b: float -> float", doc="Give the sum of two floating-point numbers.")
    def fadd(a, b):
        return a + b

    @function("n: any -> function", doc="Give a function that adds a number.")
    def adder(*operands):
        n = _addend(operands)
        return lambda *operands: _sum(_addend(operands), n)

    @function("*arguments: any -> str", doc='Give the number of the arguments and the type code of each, as "2:0,11".')
    def describe(*arguments):
        codes = [argument[0] if isinstance(argument, tuple) else _CODES[type(argument)] for argument in arguments]
        return f"{len(codes)}:{','.join(map(str, codes))}"

    @function("-> None", doc="Do nothing.")
    def noop():
        pass

    @function("text: str -> str", doc="Give the text back.")
    def echo_str(text):
        return text

    @function("data: bytes -> bytes", doc="Give the bytes back.")
    def echo_bytes(data):
        return data

    @function("data: any -> any", doc="Give a text, or bytes, backwards.")
    def reverse(*arguments):
        if arguments and isinstance(arguments[0], str):
            return "".join(reversed(arguments[0]))
        if arguments and isinstance(arguments[0], bytes):
            return bytes(reversed(arguments[0]))
        raise Failure("argument 0: Bytes expected")

    @function("x: any[...] -> None", doc="Add 1 to every element of x, in place.")
    def inc_tensor(x):
        kind = x.dtype.split("x")[0]
        if kind not in _COUNTABLE:
            raise Failure("inc_tensor: the dtype is not supported")
        bits = 8 * x.itemsize
        least = {"i": -1 << bits - 1, "u": 0}.get(kind[0])
        for i in range(len(x)):
            x[i] = x[i] + 1 if least is None else (x[i] + 1 - least) % (1 << bits) + least

    @function("x: float32[...] -> None", doc="Set what is negative in x to 0, in place.")
    def relu_f32(x):
        for i in range(len(x)):
            if x[i] < 0:
                x[i] = 0

    @function("x: float32[...], factor: float -> None", doc="Multiply x by a factor, in place.")
    def scale_f32(x, factor):
        factor = _round(factor)
        for i in range(len(x)):
            x[i] *= factor

    @function("a: float32[...], b: float32[...], out: float32[...] -> None", doc="Compute out = a + b.")
    def add_f32(a, b, out):
        if not len(a) == len(b) == len(out):
            raise Failure("the tensors have different sizes")
        for i in range(len(a)):
            out[i] = a[i] + b[i]

    doc = "Compute out = a @ b. The products of an element are added up in order."

    @function("a: float32[n, k], b: float32[k, m], out: float32[n, m] -> None", doc=doc)
    def matmul_f32(a, b, out):
        shapes = a.shape, b.shape, out.shape
        if [len(shape) for shape in shapes] != [2, 2, 2] or (b.shape[0], out.shape) != (
            a.shape[1],
            (a.shape[0], b.shape[1]),
        ):
            raise Failure("matmul_f32: the shapes do not match")
        (rows, inner), columns = a.shape, b.shape[1]
        for at in range(rows * columns):
            row, column = divmod(at, columns)
            total = array("f", (0,))
            for i in range(inner):
                total[0] += _round(a[row * inner + i] * b[i * columns + column])
            out[at] = total[0]

    @function("x: float32[...] -> float", doc="Give the sum of all elements, added up in order.")
    def sum_f32(x):
        total = array("f", (0,))
        for element in x:
            total[0] += element
        return total[0]

    doc = "Give a new float32 tensor 0, 1, ... n - 1, which the caller owns."

    @function("n: int(0..1048576) -> float32[n]", doc=doc)
    def iota(n):
        if not 0 <= n <= 1048576:
            raise Failure("iota: want 0 to 1048576")
        tensor = device.tensor((n,))
        for i in range(n):
            tensor[i] = i
        return tensor

    @function("-> None", doc="Fail, with a text.")
    def fail():
        raise Failure("fail: this function always fails")

    @function("-> None", doc="Fail, without a text.")
    def fail_silent():
        raise Failure("")

    @function("milliseconds: int [ms] -> int [ms]", doc="Do nothing for a while; give the time asked for.")
    def sleep_ms(milliseconds):
        time.sleep_ms(max(milliseconds, 0))
        return milliseconds

    @function("text: str -> None", doc="Send a line to the host's log.", name="log")
    def log_text(text):
        device.log(text, None)


def main():
    """Serve them."""
    device = microrpc_device.Device(
        name="micropython",
        firmware="microrpc demonstration",
        version="1",
        memory_bytes=131072,
        packet_bytes=2048,
        ring_bytes=2048,
    )
    install(device)
    device.run()


if __name__ == "__main__":
    main()
