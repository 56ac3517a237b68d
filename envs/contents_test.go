package envs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/scrub"
)

// asked notes which files of a host are read.
type asked struct {
	snapshot.Host
	mu    sync.Mutex
	paths []string
}

func (a *asked) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	a.mu.Lock()
	a.paths = append(a.paths, paths...)
	a.mu.Unlock()
	return a.Host.Read(ctx, paths, fn)
}

// What was learned is remembered, and what has to be stored all the same comes out of
// the store before it comes from the host.
func TestContents(t *testing.T) {
	holes := append(bytes.Repeat([]byte{0}, 100_000), 'x')
	files := map[string][]byte{"etc/a": []byte("a"), "etc/b": []byte("b"), "etc/empty": nil, "etc/holes": append(holes, make([]byte, 50_000)...),
		"etc/secret": []byte("password = correct-horse-battery\n"), "etc/z": []byte("z")}
	folder, listed := hostOf(t, files)
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	storeTree(t, st, "etc/b", files["etc/b"])
	rules, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		wire         bool
		read, stored []string // from the host: to learn of files, and to store them
	}{
		{false, []string{"etc/a", "etc/b", "etc/empty", "etc/holes", "etc/secret", "etc/z"}, nil},
		{true, nil, []string{"etc/a", "etc/empty", "etc/holes"}},
		{false, nil, []string{"etc/a", "etc/b", "etc/empty", "etc/holes"}},
	} {
		h := &asked{Host: folder}
		c, err := newContents(Config{Store: st, Jobs: 2}, h, rules, "there")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.read(t.Context(), listed); err != nil {
			t.Fatal(err)
		}
		if got := h.sorted(); !slices.Equal(got, test.read) {
			t.Errorf("%q are read, want %q", got, test.read)
		}
		kept := learned(t, c, listed)
		if err := c.gather(t.Context(), kept, map[string][]byte{"etc/z": nil}, test.wire); err != nil {
			t.Fatal(err)
		}
		if got := h.sorted(); !slices.Equal(got, test.stored) {
			t.Errorf("to be stored, %q are read, want %q", got, test.stored)
		}
		for _, f := range kept {
			r, err := c.open(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, files[f.Path]) {
				t.Errorf("%s holds %d bytes, want %d: %v", f.Path, len(got), len(files[f.Path]), err)
			}
			r.Close()
		}
		if err := errors.Join(c.remember(), c.close()); err != nil {
			t.Fatal(err)
		}
	}
}

// sorted are the paths that were read since it was asked last.
func (a *asked) sorted() []string {
	paths := a.paths
	a.paths = nil
	slices.Sort(paths)
	return paths
}

// learned are the regular files that may leave, with their digests.
func learned(t *testing.T, c *contents, listed []snapshot.File) (kept []snapshot.File) {
	t.Helper()
	for _, f := range listed {
		if f.Type != snapshot.Regular {
			continue
		}
		sum, reason, err := c.of(f)
		if err != nil || (reason != "") != (f.Path == "etc/secret") {
			t.Errorf("%s: %q, %v", f.Path, reason, err)
		}
		if f.Digest = sum; reason == "" {
			kept = append(kept, f)
		}
	}
	return kept
}

// hostOf makes a host of files in etc.
func hostOf(t *testing.T, files map[string][]byte) (*host.Dir, []snapshot.File) {
	t.Helper()
	root := t.TempDir()
	for p, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, p), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := host.Folder(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	var listed []snapshot.File
	err = folder.Files(t.Context(), "etc", func(f snapshot.File, err error) error {
		listed = append(listed, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return folder, listed
}

// storeTree publishes a tree with one file.
func storeTree(t *testing.T, st *store.Store, path string, content []byte) {
	t.Helper()
	tree, err := st.Begin(store.Trees, "one")
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(tree.Root(), path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, content, 0o644); err != nil {
		t.Fatal(err)
	}
	m := store.Manifest{{Path: ".", Type: snapshot.Dir, Mode: 0o755},
		{Path: path, Type: snapshot.Regular, Mode: 0o644, Size: int64(len(content)), Digest: digest.FromBytes(content).Encoded()}}
	if err := tree.WriteManifest(m); err != nil {
		t.Fatal(err)
	}
	if err := st.Publish(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
