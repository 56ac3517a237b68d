package content

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// Pages give what the file would, wherever and however much is asked for.
func TestPagedIsTheFile(t *testing.T) {
	content := make([]byte, 20*pageBytes+777)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(content)
	file := bytes.NewReader(content)
	p := newPaged(file)
	defer pagers.Put(p)
	r := rand.New(random)
	for range 20_000 {
		off := r.Int64N(int64(len(content)) + 100)
		size := r.IntN(1 << r.IntN(17))
		got, want := make([]byte, size), make([]byte, size)
		n, err := p.ReadAt(got, off)
		m, expected := file.ReadAt(want, off)
		if size == 0 && expected == io.EOF {
			expected = nil
		}
		if n != m || err != expected || !bytes.Equal(got[:n], want[:m]) {
			t.Fatalf("%d bytes at %d: %d, %v instead of %d, %v", size, off, n, err, m, expected)
		}
	}
}
