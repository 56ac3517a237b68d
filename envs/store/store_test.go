package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/snapshot"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestWideStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	open(t, dir)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	var wide *WideError
	if !errors.As(err, &wide) || wide.Hint() != "chmod 0700 "+dir {
		t.Errorf("got %v", err)
	}
}

func TestBlobs(t *testing.T) {
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "s"))
	data := bytes.Repeat([]byte("stead"), 10_000)
	d := digest.FromBytes(data)
	var wrong *MismatchError
	for name, bad := range map[string][]byte{"short": data[:100], "long": append(bytes.Clone(data), 'x'), "altered": bytes.ToUpper(data)} {
		if err := s.PutBlob(ctx, d, int64(len(data)), bytes.NewReader(bad)); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.Dir(), "work", "*", "*")); len(left) > 0 || s.HasBlob(d) {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
	if err := s.PutBlob(ctx, d, int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := digest.FromReader(r); err != nil || got != d {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestRemote takes a compressed blob through a folder to another store, and refuses
// one that was altered there.
func TestRemote(t *testing.T) {
	ctx := context.Background()
	a, b := open(t, filepath.Join(t.TempDir(), "a")), open(t, filepath.Join(t.TempDir(), "b"))
	remote := Folder{Dir: filepath.Join(t.TempDir(), "blobs")}
	w, err := a.NewCompressedBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("delta"), 100_000)); err != nil {
		t.Fatal(err)
	}
	d, err := w.Commit(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Sole(d), remote.Push(ctx, a, d)); err != nil {
		t.Fatal(err)
	}
	if a.IsSole(d) {
		t.Error("the remote has it, and the store believes that it doesn't")
	}
	path, _, _ := remote.path(d)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(bytes.Clone(good[:len(good)/2]), 1, 2, 3), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := remote.Fetch(ctx, b, d); err == nil || b.HasBlob(d) || !strings.Contains(err.Error(), path) {
		t.Errorf("altered: %v", err)
	}
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := remote.Fetch(ctx, b, d); err != nil || !b.HasBlob(d) {
		t.Errorf("good: %v", err)
	}
}

// TestSweep holds that a process's unfinished work goes when it is gone, and not
// before.
func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	a := open(t, dir)
	work, err := a.WorkDir("tree")
	if err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(work); err != nil {
		t.Fatalf("a living process's work was swept: %v", err)
	}
	if err := a.hold.Unlock(); err != nil { // as when the process is killed
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(work); err == nil {
		t.Error("a dead process's work is still there")
	}
	a.hold = nil
}

func TestPublishRace(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p, err := s.Begin(Trees, "same")
			if err == nil {
				err = p.WriteManifest(Manifest{})
			}
			if err == nil {
				err = s.Publish(context.Background(), p)
			}
			if err == nil {
				err = p.Discard()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	it, ok := s.Find(Trees, "same")
	if _, err := it.Manifest(); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func sampleManifest() Manifest {
	sum := digest.FromString("").Encoded()
	m := Manifest{
		{Path: ".", Type: snapshot.Dir, Mode: 0o755},
		{Path: "a b\n\xff=\\", Type: snapshot.Regular, Mode: 0o4755, UID: 70000, GID: 5, Size: 0, MTime: -5, Digest: sum, Link: "a b\n\xff=\\",
			Xattrs: map[string]string{"user.x=y": "\x00\n", "security.capability": "v"}},
		{Path: "link", Type: snapshot.Symlink, Mode: 0o777, MTime: 1 << 33, Target: "/a b"},
		{Path: "pipe", Type: snapshot.FIFO, Mode: 0o600},
		{Path: "z", Type: snapshot.Regular, Mode: 0o644, Digest: sum, Link: "a b\n\xff=\\", User: "daemon", Group: "x y"},
	}
	return m
}

func TestManifest(t *testing.T) {
	m := sampleManifest()
	data := m.Encode()
	got, err := ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), data) || len(got) != len(m) || got[1].Path != m[1].Path || got[1].Xattrs["user.x=y"] != "\x00\n" {
		t.Errorf("got %q", got.Encode())
	}
	// The digest is a promise to every lock that was ever written.
	const golden = "tree1:sha256:0bcc5cb0e59263c69acfa6b2b763717a390561a5646cd4e06bb2ea972a7fdc7b"
	if d := m.Digest(); d != golden {
		t.Errorf("the digest is %s", d)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(sampleManifest().Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Encode())
		if err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

// A blob that is read as a whole is checked as one that is read piece by piece.
func TestReadBlob(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	content := bytes.Repeat([]byte("an index\n"), 100_000)
	d := digest.FromBytes(content)
	w, err := s.NewCompressedBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadBlob(d, 16<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got, err := s.ReadBlob(d, int64(len(content)-1)); err == nil {
		t.Errorf("got %d bytes", len(got))
	}
	if _, err := s.ReadBlob(digest.FromString("none"), 1<<20); !errors.As(err, new(*MissingError)) {
		t.Errorf("got %v", err)
	}
	path, compressed, _ := s.BlobPath(d)
	if !compressed {
		t.Fatal("it isn't compressed")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x40
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadBlob(d, 16<<20); err == nil && !bytes.Equal(got, content) {
			t.Errorf("byte %d: got other bytes", i)
		}
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(d, 16<<20); !errors.As(err, new(*MismatchError)) {
		t.Errorf("got %v", err)
	}
}
