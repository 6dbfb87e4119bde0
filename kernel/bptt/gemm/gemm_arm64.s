//go:build !noasm

#include "textflag.h"

// The sums of row i are V(2i) and V(2i+1), its pointer into A is R(i).

// NEXTROW is the pointer of the row after, or the same row again if m, R12, has
// no more.
#define NEXTROW(n, from, to) \
	CMP  $n, R12; \
	CSEL GT, R14, ZR, R20; \
	ADD  R20, from, to

#define ZERO(lo, hi) \
	VEOR lo.B16, lo.B16, lo.B16; \
	VEOR hi.B16, hi.B16, hi.B16

#define MULTIPLY(row, x, lo, hi) \
	VLD1R.P (row)(R8), [x.S4]; \
	VFMLA   V16.S4, x.S4, lo.S4; \
	VFMLA   V17.S4, x.S4, hi.S4

// STORE writes a row of C and leaves after the last one.
#define STORE(lo, hi) \
	ZERO(V27, V28); \
	CBZ   R19, 2(PC); \
	VLD1  (R15), [V27.S4, V28.S4]; \
	VFMLA V26.S4, lo.S4, V27.S4; \
	VFMLA V26.S4, hi.S4, V28.S4; \
	VST1  [V27.S4, V28.S4], (R15); \
	ADD   R16, R15; \
	SUB   $1, R12; \
	CBZ   R12, done

// func productNEON(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32)
TEXT ·productNEON(SB), NOSPLIT, $0-80
	MOVD  m+0(FP), R12
	MOVD  a+16(FP), R13
	MOVD  ars+24(FP), R14
	LSL   $2, R14
	MOVD  acs+32(FP), R8
	LSL   $2, R8
	MOVD  b+40(FP), R17
	MOVD  bs+48(FP), R11
	LSL   $2, R11
	MOVD  c+56(FP), R15
	MOVD  cs+64(FP), R16
	LSL   $2, R16
	FMOVS alpha+72(FP), F26
	VDUP  V26.S[0], V26.S4
	MOVWU add+76(FP), R19

tile:
	MOVD R13, R0
	NEXTROW(1, R0, R1)
	NEXTROW(2, R1, R2)
	NEXTROW(3, R2, R3)
	NEXTROW(4, R3, R4)
	NEXTROW(5, R4, R5)
	NEXTROW(6, R5, R6)
	NEXTROW(7, R6, R7)
	ZERO(V0, V1)
	ZERO(V2, V3)
	ZERO(V4, V5)
	ZERO(V6, V7)
	ZERO(V8, V9)
	ZERO(V10, V11)
	ZERO(V12, V13)
	ZERO(V14, V15)
	MOVD k+8(FP), R9
	MOVD R17, R10

step:
	VLD1 (R10), [V16.S4, V17.S4]
	ADD  R11, R10
	MULTIPLY(R0, V18, V0, V1)
	MULTIPLY(R1, V19, V2, V3)
	MULTIPLY(R2, V20, V4, V5)
	MULTIPLY(R3, V21, V6, V7)
	MULTIPLY(R4, V22, V8, V9)
	MULTIPLY(R5, V23, V10, V11)
	MULTIPLY(R6, V24, V12, V13)
	MULTIPLY(R7, V25, V14, V15)
	SUB  $1, R9
	CBNZ R9, step

	STORE(V0, V1)
	STORE(V2, V3)
	STORE(V4, V5)
	STORE(V6, V7)
	STORE(V8, V9)
	STORE(V10, V11)
	STORE(V12, V13)
	STORE(V14, V15)
	ADD R14<<3, R13
	B   tile

done:
	RET
