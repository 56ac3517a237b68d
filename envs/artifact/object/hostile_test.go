package object_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// TestGo reads what Go's linker left in the program of this test.
func TestGo(t *testing.T) {
	t.Parallel()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := mustRead(t, path)
	if version := strings.Fields(runtime.Version())[0]; o.Go != version || o.GoLevel == "" {
		t.Errorf("it is of %q, %q, but this is %q", o.Go, o.GoLevel, version)
	}
}

// big is an object of a hundred megabytes that is nothing but symbols, as many as are
// read, whose names are as long as they can be all in all.
func big() []byte {
	const (
		count   = 1 << 20
		hashAt  = 0x1000
		symsAt  = hashAt + 8*count
		strsAt  = symsAt + 24*count
		size    = strsAt + 64<<20
		dynamic = 0x200
	)
	b := make([]byte, size)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	for i, p := range []struct{ kind, off, size uint64 }{{1, 0, size}, {2, dynamic, 5 * 16}} {
		h := b[64+56*i:]
		le.PutUint32(h, uint32(p.kind))
		le.PutUint32(h[4:], 4)
		le.PutUint64(h[8:], p.off)
		le.PutUint64(h[16:], p.off)
		le.PutUint64(h[32:], p.size)
		le.PutUint64(h[40:], p.size)
		le.PutUint64(h[48:], 0x1000)
	}
	for i, d := range []uint64{5, strsAt, 6, symsAt, 10, 64 << 20, 0x6ffffef5, hashAt, 0, 0} {
		le.PutUint64(b[dynamic+8*i:], d)
	}
	name := strings.Repeat("n", 47)
	copy(b[strsAt+1:], name)
	hash := uint32(5381)
	for _, c := range []byte(name) {
		hash = hash*33 + uint32(c)
	}
	for i, w := range []uint32{1, 1, 1, 0, ^uint32(0), ^uint32(0), 1} {
		le.PutUint32(b[hashAt+4*i:], w)
	}
	for i := 1; i < count; i++ {
		le.PutUint32(b[hashAt+28+4*(i-1):], hash&^1)
		sym := b[symsAt+24*i:]
		le.PutUint32(sym, 1)
		sym[4], sym[6] = 1<<4|1, 1
		le.PutUint64(sym[8:], 1)
		le.PutUint64(sym[16:], uint64(i)) // each has another size
	}
	le.PutUint32(b[hashAt+28+4*(count-2):], hash|1)
	return b
}

// TestMemory reads an object that is as bad as can be, and its record.
func TestMemory(t *testing.T) {
	b := big()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	o, err := object.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 200 {
		t.Errorf("reading %d MB took %d MB", len(b)>>20, n)
	}
	if n := len(o.Exports); n != 1<<20-1 {
		t.Errorf("it exports %d symbols", n)
	}
	if len(o.Named(o.Exports[0].Name)) != len(o.Exports) {
		t.Error("not all are found by their name")
	}
}
