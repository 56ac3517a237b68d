package content

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A file that others write to may end earlier than it did when it was mapped.
func TestTruncatedWhileMapped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("stead"), 20_000)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, done := mapFile(f, int64(len(content)))
	defer done()
	if _, ok := r.(mapped); !ok {
		t.Fatalf("it is read by a %T", r)
	}
	got := make([]byte, len(content)+1)
	if n, err := r.ReadAt(got, 0); n != len(content) || err != io.EOF || !bytes.Equal(got[:n], content) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := r.ReadAt(got, int64(len(content))); n != 0 || err != io.EOF {
		t.Errorf("beyond its end: %d bytes, %v", n, err)
	}
	if err := os.Truncate(name, 10); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(got[:100], 50_000); n != 0 || !errors.Is(err, errTruncated) {
		t.Errorf("after its end was cut off: %d bytes, %v", n, err)
	}
}
