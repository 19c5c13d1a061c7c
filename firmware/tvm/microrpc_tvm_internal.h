/* What the adapter's two files know of each other: microrpc_tvm.c calls kernels, microrpc_tvm_runtime.c is called by them. */
#ifndef MICRORPC_TVM_INTERNAL_H
#define MICRORPC_TVM_INTERNAL_H

#include "microrpc_tvm.h"

/* Why a call failed; "" where nothing was told. What is too long is cut off. */
extern char microrpc_tvm_text[192];
void microrpc_tvm_begin_text(void);
void microrpc_tvm_add_text(const char *more);
void microrpc_tvm_add_number(int64_t number);

/* The workspace: what is taken is given back by setting the number of used bytes back. NULL, and the text says so, where
 * there is not so much. */
extern uint32_t microrpc_tvm_used_bytes;
void *microrpc_tvm_push(uint64_t size_bytes);

#endif
