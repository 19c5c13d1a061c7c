"""What today's TVM says over TCP (docs/tvm_wire.md): bytes <-> values, without I/O and clock."""
