//go:build amd64 || arm64

package kernel

import (
	"testing"
	"unsafe"
)

// TestArgsAreWhereAssemblyReadsThem holds the order of kernel/internal/gen.
func TestArgsAreWhereAssemblyReadsThem(t *testing.T) {
	var a stepArgs
	for i, offset := range []uintptr{
		unsafe.Offsetof(a.w), unsafe.Offsetof(a.wStep), unsafe.Offsetof(a.blocks), unsafe.Offsetof(a.z),
		unsafe.Offsetof(a.zStep), unsafe.Offsetof(a.x), unsafe.Offsetof(a.nx), unsafe.Offsetof(a.xq),
		unsafe.Offsetof(a.nxq), unsafe.Offsetof(a.q), unsafe.Offsetof(a.nq), unsafe.Offsetof(a.next),
		unsafe.Offsetof(a.c), unsafe.Offsetof(a.h), unsafe.Offsetof(a.uStep), unsafe.Offsetof(a.rows),
		unsafe.Offsetof(a.xStep), unsafe.Offsetof(a.zRow), unsafe.Offsetof(a.hStep),
	} {
		if offset != uintptr(8*i) {
			t.Errorf("field %d is at %d, want %d", i, offset, 8*i)
		}
	}
}
