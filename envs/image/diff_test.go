package image

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// noRules leaves nothing behind.
type noRules struct{ noise string }

func (r noRules) Path(p string, _ snapshot.Type) (snapshot.Class, string) {
	if r.noise != "" && (p == r.noise || strings.HasPrefix(p, r.noise+"/")) {
		return snapshot.Noise, "noise"
	}
	return "", ""
}
func (noRules) Place(string, snapshot.Type, bool) (snapshot.Class, string, bool) {
	return snapshot.Made, "", true
}
func (noRules) Content(string, io.Reader) (string, error) { return "", nil }
func (noRules) Stands(string, []byte, snapshot.Owners) ([]byte, string, bool) {
	return nil, "", false
}
func (noRules) Version() string { return "" }

// randomTree is a small file system with random entries.
func randomTree(r *rand.Rand, n int) store.Manifest {
	at := map[string]snapshot.File{".": folder(".", 0o755)}
	for range n {
		p := fmt.Sprintf("%c", 'a'+r.IntN(4))
		for range r.IntN(4) {
			p += fmt.Sprintf("/%c", 'a'+r.IntN(4))
		}
		if f, ok := at[p]; ok && f.Type == snapshot.Dir {
			continue
		}
		under := false // something on the way is no folder
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			f, ok := at[d]
			under = under || ok && f.Type != snapshot.Dir
		}
		if under {
			continue
		}
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			at[d] = folder(d, 0o755)
		}
		at[p] = randomEntry(r, p)
	}
	m := store.Manifest{}
	for _, f := range at {
		m = append(m, f)
	}
	m.Normalize()
	return m
}

func randomEntry(r *rand.Rand, p string) snapshot.File {
	switch r.IntN(8) {
	case 0:
		return folder(p, 0o755)
	case 1:
		return snapshot.File{Path: p, Type: snapshot.FIFO, Mode: 0o600}
	case 2, 3:
		f := link(p, "nowhere")
		f.MTime += int64(r.IntN(2))
		return f
	default:
		f := regular(p, strings.Repeat("x", r.IntN(3)))
		f.MTime += int64(r.IntN(2))
		return f
	}
}

// linked puts some of the files into groups of hard links.
func linked(r *rand.Rand, m store.Manifest) store.Manifest {
	first := map[int]snapshot.File{}
	for i, f := range m {
		if f.Type != snapshot.Regular || r.IntN(2) == 0 {
			continue
		}
		g := r.IntN(3)
		if _, ok := first[g]; !ok {
			first[g] = f
		}
		p := f.Path
		m[i] = first[g]
		m[i].Path, m[i].Link = p, first[g].Path
	}
	m.Normalize()
	return m
}

// TestDiffIsExact holds, for random packages and random hosts, that the base with
// the delta of a host is that host.
func TestDiffIsExact(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var trees []Tree
		for range 1 + r.IntN(3) {
			trees = append(trees, Tree{Manifest: linked(r, randomTree(r, r.IntN(12)))})
		}
		base, err := Compose(trees, nil, Names{})
		if err != nil {
			t.Fatal(err)
		}
		host := linked(r, randomTree(r, r.IntN(25)))
		if r.IntN(2) == 0 { // much of a real host is its packages
			host = mutate(r, base.Manifest)
		}
		inv := &snapshot.Inventory{Database: &snapshot.Database{}}
		for _, f := range host {
			if f.Type == snapshot.Regular {
				f.Digest = "" // nothing was read yet
			}
			inv.Entries = append(inv.Entries, snapshot.Entry{File: f, Class: snapshot.Made})
		}
		plan := Diff(base, inv, noRules{}, nil)
		d := &Delta{Entries: plan.Entries, Gone: plan.Gone}
		for i, f := range d.Entries {
			if whole, ok := host.Lookup(f.Path); ok {
				d.Entries[i].Digest = whole.Digest
			}
		}
		got, err := Outcome(base, d)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if string(got.Encode()) != string(host.Encode()) {
			t.Fatalf("seed %d: got\n%s\ninstead of\n%s\nfrom\n%s", seed, got.Encode(), host.Encode(), base.Manifest.Encode())
		}
	}
}

// mutate changes some entries of a tree as an administrator would.
func mutate(r *rand.Rand, m store.Manifest) store.Manifest {
	out := store.Manifest{}
	gone := map[string]bool{}
	for _, f := range m {
		if gone[path.Dir(f.Path)] && f.Path != "." {
			gone[f.Path] = true
			continue
		}
		switch r.IntN(12) {
		case 0:
			gone[f.Path] = f.Path != "."
		case 1:
			if f.Type != snapshot.Symlink {
				f.Mode ^= 0o010
			}
		case 2:
			f.UID = 5
		case 3:
			if f.Path != "." {
				link := f.Link
				f = randomEntry(r, f.Path)
				gone[f.Path] = f.Type != snapshot.Dir
				if f.Type == snapshot.Regular {
					f.Link = link
				}
				out = append(out, f)
				continue
			}
		}
		if !gone[f.Path] {
			out = append(out, f)
		}
	}
	// The members of a group share everything but their path.
	first := map[string]snapshot.File{}
	for i, f := range out {
		if f.Link == "" {
			continue
		}
		if _, ok := first[f.Link]; !ok {
			first[f.Link] = f
		}
		p := f.Path
		out[i] = first[f.Link]
		out[i].Path = p
	}
	out.Normalize()
	return out
}

// TestDiffLeaves holds that what the rules leave on a host is no sign that a package's
// version of it is missing.
func TestDiffLeaves(t *testing.T) {
	base := &Base{Manifest: store.Manifest{folder(".", 0o755), folder("log", 0o755), regular("log/x", "1"), regular("y", "1")}}
	inv := &snapshot.Inventory{Database: &snapshot.Database{}, Entries: []snapshot.Entry{
		{File: folder(".", 0o755), Class: snapshot.Owned},
		{File: regular("log", "a file where the package has a folder"), Class: snapshot.Noise},
	}}
	plan := Diff(base, inv, noRules{noise: "log"}, nil)
	if len(plan.Entries) != 0 || len(plan.Gone) != 1 || plan.Gone[0] != "y" {
		t.Errorf("stores %v, takes away %v", plan.Entries, plan.Gone)
	}
}
