"""Errors of running out of memory, as libraries raise them."""

from __future__ import annotations

import errno

import torch

ON_A_CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)
ERRORS = {
    "CPU": RuntimeError(ON_A_CPU),
    "CPU of Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000000 bytes."),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Python": MemoryError(),
    "system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "threads": RuntimeError("can't start new thread"),
}
