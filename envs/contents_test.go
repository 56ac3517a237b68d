package envs

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	paths []string
}

func (a *asked) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	a.paths = append(a.paths, paths...)
	return a.Host.Read(ctx, paths, fn)
}

// What was learned is remembered, and what has to be stored all the same comes out of
// the store before it comes from the host.
func TestContents(t *testing.T) {
	root := t.TempDir()
	holes := append(bytes.Repeat([]byte{0}, 100_000), 'x')
	files := map[string][]byte{"etc/a": []byte("a"), "etc/b": []byte("b"), "etc/empty": nil, "etc/holes": append(holes, make([]byte, 50_000)...),
		"etc/secret": []byte("password = correct-horse-battery\n"), "etc/z": []byte("z")}
	for p, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, p), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	storeTree(t, st, "etc/b", files["etc/b"])
	folder, err := host.Folder(root)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	rules, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var listed []snapshot.File
	err = folder.Files(t.Context(), "etc", func(f snapshot.File, err error) error {
		listed = append(listed, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wire := range []bool{false, true, false} {
		h := &asked{Host: folder}
		c, err := newContents(Config{Store: st, Jobs: 2}, h, rules, "there")
		if err != nil {
			t.Fatal(err)
		}
		first := wire == false && !fileExists(c.cache)
		if err := c.read(t.Context(), listed); err != nil {
			t.Fatal(err)
		}
		if first != (len(h.paths) == len(files)) {
			t.Errorf("%q are read, first time: %v", h.paths, first)
		}
		h.paths = nil
		var kept []snapshot.File
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
		if err := c.gather(t.Context(), kept, map[string][]byte{"etc/z": nil}, wire); err != nil {
			t.Fatal(err)
		}
		slices.Sort(h.paths)
		want := []string{"etc/a", "etc/b", "etc/empty", "etc/holes"}
		if wire {
			want = slices.DeleteFunc(want, func(p string) bool { return p == "etc/b" })
		}
		if first {
			want = nil
		}
		if !slices.Equal(h.paths, want) {
			t.Errorf("to be stored, %q are read, want %q", h.paths, want)
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
		if err := c.remember(); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
