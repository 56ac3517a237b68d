package envs

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's sums
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact/object/objecttest"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

const customers = "a string of the customer's own"

// newIndexed is a lead whose host has programs: one of a package, one of none, with a
// library, and a script.
func newIndexed(t *testing.T) *lead {
	b := newLead(t)
	b.put("usr/local/bin/script", "#!/usr/bin/agent -x\n")
	agent, lib := filepath.Join(b.root, "usr/bin/agent"), filepath.Join(b.root, "opt/x/lib/libx.so.1")
	objecttest.Library(t, lib, `const char *x_name(void) { return "`+customers+`"; }`)
	objecttest.Program(t, agent, `extern const char *x_name(void); int main(void) { return !x_name(); }`, lib)
	objecttest.Program(t, filepath.Join(b.root, "usr/local/bin/own"), `int main(void) { return 0; }`)
	data, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	sums := fmt.Sprintf("%x  usr/bin/agent\n", md5.Sum(data)) //nolint:gosec // as above
	b.put("var/lib/dpkg/info/agent.md5sums", sums)
	status := "Package: agent\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x\n" +
		"Provides: agent-abi-1, mail-transport-agent (= 1)\nDescription: x\n\n"
	b.put("var/lib/dpkg/status", status)
	if err := os.Chmod(filepath.Join(b.root, "usr/local/bin/script"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func folder(dir string) (snapshot.Host, error) { return host.Folder(dir) }

var indexOptions = IndexOptions{Folder: folder, Readers: pkgdb.Readers}

// holds checks what an index has to tell of such a host.
func (b *lead) holds(x *system.Index) {
	b.t.Helper()
	f, ok := x.Find("/opt/x/lib/libx.so.1")
	if !ok {
		b.t.Fatal("the library isn't in the index")
	}
	o, err := f.Object()
	if err != nil {
		b.t.Fatal(err)
	}
	if o.Soname != "libx.so.1" || len(o.Exports) != 1 || o.Exports[0].Name != "x_name" {
		b.t.Errorf("the library is %+v", o)
	}
	if f, ok = x.Find("/usr/bin/agent"); !ok || f.Package != "agent" || !f.Executable {
		b.t.Errorf("the package's program is %+v, %v", f, ok)
	}
	if f, ok = x.Find("/usr/local/bin/script"); !ok || f.Script() != "/usr/bin/agent -x" || f.Package != "" {
		b.t.Errorf("the script is %+v, %v", f, ok)
	}
	want := system.Package{Name: "agent", Version: "1.0", Architecture: "amd64", Provides: []string{"agent-abi-1", "mail-transport-agent (= 1)"}}
	if p := x.Facts().Packages; len(p) != 1 || p[0].Name != want.Name || p[0].Version != want.Version || !slices.Equal(p[0].Provides, want.Provides) {
		b.t.Errorf("the packages are %+v", p)
	}
}

func (b *lead) opened(cfg Config, rel Release) *system.Index {
	b.t.Helper()
	x, header, err := OpenIndex(b.t.Context(), cfg, rel, indexOptions)
	if err != nil {
		b.t.Fatal(err)
	}
	if header.Host.ID != "debian" {
		b.t.Errorf("the host is %+v", header.Host)
	}
	return x
}

func (b *lead) lock(rel Release) *lock.Lock {
	b.t.Helper()
	l, err := rel.Lock()
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// A release has an index of its own, made of its trees and its delta, and reads no object
// for it that the release before had.
func TestIndex(t *testing.T) {
	b := newIndexed(t)
	r, root := b.taken(&restless{})
	first := b.lock(r.Release)
	if first.Index == nil || first.Version != 2 {
		t.Fatalf("version %d with index %v", first.Version, first.Index)
	}
	b.holds(b.opened(b.cfg, r.Release))
	if again, _ := b.taken(&restless{}); again.New {
		t.Error("an unchanged host made a release")
	}
	// What is indexed isn't read again: nobody notices that the tree is spoiled.
	for _, p := range []string{filepath.Join(root, "usr/bin/agent"), filepath.Join(root, "opt/x/lib/libx.so.1")} {
		if err := errors.Join(os.Chmod(p, 0o755), os.Truncate(p, 0)); err != nil {
			t.Fatal(err)
		}
	}
	b.put("etc/app.conf", "key = two\n")
	res, err := b.snapshot(&restless{})
	if err != nil || !res.New {
		t.Fatal(err)
	}
	if second := b.lock(res.Release); second.Index == nil || *second.Index != *first.Index {
		t.Errorf("a setting changed, and the index from %v to %v", first.Index, second.Index)
	}
	b.holds(b.opened(b.cfg, res.Release))
}

// A delta that the store had is not copied from the host again: what an index needs of it
// is read out of the delta.
func TestIndexOfKnownDelta(t *testing.T) {
	b := newIndexed(t)
	b.link("opt/x/lib/libx.so.1", "opt/a/liba.so")
	b.put("opt/x/data", strings.Repeat("data ", 1000))
	r, _ := b.taken(&restless{})
	b.cfg.Fleet = testFleet(t)
	res, err := b.snapshot(&restless{before: func(p string) {
		if strings.HasPrefix(p, "opt/") {
			t.Errorf("%s is read again", p)
		}
	}})
	if err != nil || res.Delta != r.Delta {
		t.Fatal(res, err)
	}
	if first, second := b.lock(r.Release).Index, b.lock(res.Release).Index; second == nil || *first != *second {
		t.Errorf("the index was %v, and is %v", first, second)
	}
	b.holds(b.opened(b.cfg, res.Release))
}

// What an index is of is found in the fleet, too, and what is damaged there is told.
func TestIndexFromFleet(t *testing.T) {
	b := newIndexed(t)
	r, _ := b.taken(&restless{})
	elsewhere := Config{Store: testStore(t), Fleet: b.cfg.Fleet}
	b.holds(b.opened(elsewhere, r.Release))
	b.holds(b.opened(Config{Fleet: b.cfg.Fleet}, r.Release))

	l := b.lock(r.Release)
	chunks, err := indexChunks(b.cfg, l.Index)
	if err != nil || len(chunks) == 0 {
		t.Fatal(chunks, err)
	}
	remote := store.Folder{Dir: b.cfg.Fleet.Blobs()}
	for _, d := range append(chunks, l.Index.Digest()) {
		if !remote.Has(d) || b.cfg.Store.IsSole(d) {
			t.Errorf("%s wasn't shared", d)
		}
	}
	blob := filepath.Join(b.cfg.Fleet.Blobs(), "sha256", chunks[0].Encoded()+".zst")
	if err := os.Truncate(blob, 9); err != nil {
		t.Fatal(err)
	}
	x := b.opened(elsewhere, r.Release)
	f, _ := x.Find("/usr/bin/agent")
	if o, err := f.Object(); err == nil {
		t.Errorf("read %+v out of a damaged blob", o)
	}
	b.holds(b.opened(b.cfg, r.Release)) // the store has a whole one
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	_, _, err = OpenIndex(t.Context(), elsewhere, r.Release, indexOptions)
	var missing *MissingBlobError
	if !errors.As(err, &missing) || missing.Digest != chunks[0] {
		t.Errorf("without it: %v", err)
	}
	pushed, err := Push(t.Context(), b.cfg, r.Release)
	if err != nil || pushed.Blobs != 1 {
		t.Errorf("pushed %+v, %v", pushed, err)
	}
	b.holds(b.opened(elsewhere, r.Release))
}

// GC keeps the blobs of indexes, and fsck finds those that are damaged.
func TestIndexIsKept(t *testing.T) {
	b := newIndexed(t)
	r, _ := b.taken(&restless{})
	stray := putBlob(t, b.cfg.Store, "stray")
	age(t, b.cfg.Store)
	if done, err := GC(t.Context(), b.cfg, false); err != nil || done.Blobs != 1 || b.cfg.Store.HasBlob(stray) {
		t.Errorf("got %+v, %v", done, err)
	}
	chunks, err := indexChunks(b.cfg, b.lock(r.Release).Index)
	if err != nil {
		t.Fatal(err)
	}
	path, _, ok := b.cfg.Store.BlobPath(chunks[0])
	if !ok {
		t.Fatal("a chunk is gone")
	}
	var found []string
	check := func(drop bool) {
		t.Helper()
		found = nil
		_, err := Fsck(t.Context(), b.cfg, r.Release, FsckOptions{Folder: folder, Drop: drop,
			Report: func(d Difference) { found = append(found, d.Where) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	if check(false); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	if err := os.Truncate(path, 9); err != nil {
		t.Fatal(err)
	}
	if check(true); len(found) != 1 || found[0] != "blob of the index" || b.cfg.Store.HasBlob(chunks[0]) {
		t.Errorf("found %q", found)
	}
	b.holds(b.opened(b.cfg, r.Release)) // the fleet has one
}

// A release that was taken before there were indexes gets one made of its env.
func TestIndexOfOldRelease(t *testing.T) {
	b := newIndexed(t)
	r, _ := b.taken(&restless{})
	l := b.lock(r.Release)
	pinned := *l.Index
	identity := r.Identity
	l.Version, l.Index = 1, nil
	old := l.Write()
	if lock.Identity(old) != identity {
		t.Fatal("it is another release")
	}
	if err := errors.Join(os.Chmod(r.Release.Path, 0o644), os.WriteFile(r.Release.Path, old, 0o644)); err != nil {
		t.Fatal(err)
	}
	if again, _ := b.taken(&restless{}); again.New {
		t.Error("a release that only lacks an index was made anew")
	}
	elsewhere := Config{Store: testStore(t), Fleet: b.cfg.Fleet}
	_, _, err := OpenIndex(t.Context(), elsewhere, r.Release, indexOptions)
	var none *NoIndexError
	if !errors.As(err, &none) || !strings.Contains(none.Hint(), "stead pull acme@1") {
		t.Errorf("got %v", err)
	}
	b.holds(b.opened(b.cfg, r.Release))
	made := rememberedIndex(b.cfg.Store, identity)
	if made == nil || *made != pinned {
		t.Errorf("made of the env it is %v, and was %v", made, pinned)
	}
	age(t, b.cfg.Store)
	if _, err := GC(t.Context(), b.cfg, false); err != nil || !b.cfg.Store.HasBlob(made.Digest()) {
		t.Errorf("it isn't kept: %v", err)
	}
	if _, _, err = OpenIndex(t.Context(), b.cfg, r.Release, IndexOptions{}); err != nil {
		t.Errorf("it isn't remembered: %v", err)
	}
}

// Where no content may leave a host its programs are read all the same, and nothing but
// digests and records of them is kept.
func TestIndexAlone(t *testing.T) {
	b := newIndexed(t)
	rules, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	reads := map[string]int{}
	take := func() *SnapshotResult {
		t.Helper()
		d, err := host.Folder(b.root)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		clear(reads)
		res, err := Snapshot(t.Context(), b.cfg, &restless{Host: d, before: func(p string) { reads[p]++ }},
			SnapshotOptions{Target: "acme", Address: b.root, Readers: pkgdb.Readers, Rules: rules, Take: lock.TakeIndex})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	r := take()
	l := b.lock(r.Release)
	if l.Take != lock.TakeIndex || l.Index == nil || l.Delta.SHA256 != "" || r.Delta.SHA256 != "" {
		t.Fatalf("took %+v", l)
	}
	b.holds(b.opened(Config{Fleet: b.cfg.Fleet}, r.Release))
	for _, dir := range []string{b.cfg.Store.Dir(), b.cfg.Fleet.Dir()} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(p)
			if name, ok := strings.CutSuffix(d.Name(), ".zst"); ok {
				data, err = b.cfg.readBlob(digest.NewDigestFromEncoded(digest.SHA256, name), "it", maxIndex)
			}
			if bytes.Contains(data, []byte(customers)) || bytes.Contains(data, []byte("\x7fELF")) {
				t.Errorf("%s has a file's content", p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if again := take(); again.New || reads["usr/bin/agent"]+reads["opt/x/lib/libx.so.1"] > 0 {
		t.Errorf("unchanged: new %v, read %v", again.New, reads)
	}
	objecttest.Library(t, filepath.Join(b.root, "opt/x/lib/libx.so.1"), `int x_other(void) { return 1; }`)
	if r := take(); !r.New || reads["usr/bin/agent"] > 0 || reads["opt/x/lib/libx.so.1"] != 1 {
		t.Errorf("with another library: new %v, read %v", r.New, reads)
	}
}

// A host that is no release is indexed as it is; what the store has isn't read.
func TestIndexHost(t *testing.T) {
	b := newIndexed(t)
	d, err := host.Folder(b.root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rules, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	reads := map[string]int{}
	read := func(address string) {
		t.Helper()
		clear(reads)
		x, facts, err := IndexHost(t.Context(), b.cfg, &restless{Host: d, before: func(p string) { reads[p]++ }},
			SnapshotOptions{Address: address, Readers: pkgdb.Readers, Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		if b.holds(x); facts.ID != "debian" {
			t.Errorf("the host is %+v", facts)
		}
	}
	read("one")
	if names, err := filepath.Glob(filepath.Join(b.cfg.Store.Dir(), "blobs", "sha256", "*")); err != nil || len(names) > 0 {
		t.Errorf("it left %q, %v", names, err)
	}
	b.taken(&restless{})
	if read("another"); reads["usr/bin/agent"] > 0 || reads["opt/x/lib/libx.so.1"] != 1 {
		t.Errorf("read %v", reads)
	}
}

// refusing is a bundle of a host: some contents it doesn't give.
type refusing struct {
	snapshot.Host
	why map[string]error
}

func (h refusing) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	var rest []string
	for _, p := range paths {
		if err := h.why[p]; err == nil {
			rest = append(rest, p)
		} else if err := fn(p, nil, err); err != nil {
			return err
		}
	}
	return h.Host.Read(ctx, rest, fn)
}

// What was withheld on a host is missing from its index, but without a library there is
// none, unless the library is in the store.
func TestIndexOfBundle(t *testing.T) {
	b := newIndexed(t)
	d, err := host.Folder(b.root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rules, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]error{"usr/local/bin/own": &snapshot.WithheldError{Reason: "a key"}}
	read := func() (*system.Index, error) {
		x, _, err := IndexHost(t.Context(), b.cfg, refusing{d, why}, SnapshotOptions{Address: "x", Readers: pkgdb.Readers, Rules: rules})
		return x, err
	}
	x, err := read()
	if err != nil {
		t.Fatal(err)
	}
	b.holds(x)
	if _, ok := x.Find("/usr/local/bin/own"); ok {
		t.Error("a withheld file is there")
	}
	why["usr/bin/agent"] = &snapshot.UnsentError{Path: "usr/bin/agent", Original: true}
	b.cfg.Store = testStore(t)
	var unsent *UnsentIndexError
	if _, err = read(); !errors.As(err, &unsent) || unsent.Path != "usr/bin/agent" {
		t.Errorf("got %v", err)
	}
	b.taken(&restless{})
	if x, err = read(); err != nil {
		t.Fatal(err)
	}
	b.holds(x)
}

func FuzzProvides(f *testing.F) {
	f.Add([]byte("Package: a\nProvides: b, c (= 1),\n d\nDescription: x\n"))
	f.Add([]byte("provides:"))
	f.Add([]byte("c\x98\x98\x98\xc7e: N\nProvides: b")) // longer in lower case
	f.Fuzz(func(t *testing.T, control []byte) {
		for _, p := range provides(control) {
			if p == "" || strings.ContainsAny(p, ",\n") {
				t.Errorf("%q", p)
			}
		}
	})
}

func TestMissingBlobSaysWhoHasIt(t *testing.T) {
	fleet, err := OpenFleet(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Config{Fleet: fleet}.readBlob(digest.FromString("x"), "the index", maxIndex)
	var missing *MissingBlobError
	if !errors.As(err, &missing) || missing.Remote != fleet.Blobs() {
		t.Errorf("a fleet without blobs: %v", err)
	}
	if _, err = (Config{}).readBlob(digest.FromString("x"), "the index", maxIndex); err == nil || !strings.Contains(err.Error(), "no fleet are at hand") {
		t.Errorf("nothing at hand: %v", err)
	}
}
