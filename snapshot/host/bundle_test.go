package host

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// free lets everything leave.
type free struct{}

func (free) Path(string, snapshot.Type) (snapshot.Class, string) { return "", "" }
func (free) Place(string, snapshot.Type, bool) (snapshot.Class, string, bool) {
	return snapshot.Made, "", false
}
func (free) Content(_ string, r io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, r)
	return "", err
}
func (free) Stands(string, []byte, snapshot.Owners) ([]byte, string, bool) { return nil, "", false }
func (free) Version() string                                               { return "free" }

// everything makes a bundle of all of a host.
func everything(t testing.TB, h snapshot.Host) []byte {
	t.Helper()
	p, err := PlanBundle(context.Background(), h, BundleOptions{Rules: free{}, All: true, Maker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.Write(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openBundle(t testing.TB, content []byte) *Bundle {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.bundle")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(context.Background(), name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestBundleConforms(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		return openBundle(t, everything(t, open(t, root)))
	})
}
